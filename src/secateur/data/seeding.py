"""Randomness that leaves no trace: seeded inside, the user's generators as they were outside.

Data sets and layers draw from torch's, Python's and NumPy's global generators. Inside :func:`seeded` all three
start from one seed; afterwards each stands where the user had left it.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seeds every global generator for the length of a block and restores them afterwards.

    Args:
        seed: any integer; it is folded into 32 bits.
        device: the device whose generator is used besides the processor's.
    """
    device = torch.device(device)
    kind = device.type if device.type not in ("cpu", "meta") else "cuda"
    devices = [] if device.type in ("cpu", "meta") else [_index(device)]
    python_state = random.getstate()
    numpy = sys.modules.get("numpy")
    numpy_state = numpy.random.get_state() if numpy is not None else None
    try:
        with torch.random.fork_rng(devices=devices, device_type=kind):
            reseed(seed)
            yield
    finally:
        random.setstate(python_state)
        if numpy is not None:
            numpy.random.set_state(numpy_state)


def reseed(seed: int) -> None:
    """Sets the global generators; to be called inside :func:`seeded`, at the start of an epoch."""
    seed %= 2**32
    torch.manual_seed(seed)
    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed)


def mixed(seed: int, epoch: int) -> int:
    """A seed of its own for every epoch of every run. Source: the multiplier of SplitMix64 (Steele, 2014)."""
    return (seed * 0x9E3779B97F4A7C15 + (epoch + 1) * 0xBF58476D1CE4E5B9) % 2**63


def _index(device: torch.device) -> int:
    return device.index if device.index is not None else torch.accelerator.current_device_index()
