"""A short name for data: which samples, in which order, with which labels.

Over a bounded number of samples, so that it costs little; enough to notice another data set, another
preprocessing or another order, not to prove that two large data sets are the same.
"""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import torch

from secateur.data.loaders import tensors_in
from secateur.data.seeding import seeded
from secateur.data.split import Data


def fingerprint(data: Data, batches: int = 4) -> str:
    """SHA-256 (hexadecimal) over the calibration inputs and the first batches to choose on and to record with."""
    digest = hashlib.sha256(b"secateur data 1")
    _add(digest, list(data.calibration))
    with seeded(data.seed):
        for loader in (data.select, data.evaluate):
            digest.update(b"|")
            for batch in itertools.islice(iter(loader), batches):
                _add(digest, batch)
    digest.update(repr(data.labels).encode())
    return digest.hexdigest()


def _add(digest: Any, value: Any) -> None:
    for tensor in tensors_in(value):
        flat = tensor.detach().to("cpu").contiguous()
        digest.update(f"{flat.dtype}{tuple(flat.shape)}".encode())
        digest.update(flat.reshape(-1).view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
