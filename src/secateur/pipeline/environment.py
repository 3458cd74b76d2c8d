"""What a run ran on: versions, processor, threads, hashes."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
from typing import Any

import torch
from torch import Tensor, nn

from secateur.bench import processor_name

_PACKAGES = (
    "onnx",
    "onnxruntime",
    "onnxscript",
    "openvino",
    "nncf",
    "safetensors",
    "numpy",
    "timm",
    "transformers",
    "torchvision",
)


def environment(
    threads: int, seed: int, hashes: dict[str, str], started: str, finished: str | None
) -> dict[str, Any]:
    """The content of ``environment.json``."""
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "secateur": _own_version(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "packages": packages,
        "processor": processor_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": threads,
        "platform": platform.platform(),
        "seed": seed,
        "hashes": hashes,
        "started": started,
        "finished": finished,
    }


def model_hash(model: nn.Module) -> str:
    """Hash of the names, shapes and values of a model's parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if isinstance(tensor, Tensor):
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(raw.numpy().tobytes())
    return digest.hexdigest()[:32]


def _own_version() -> str:
    try:
        return importlib.metadata.version("secateur")
    except importlib.metadata.PackageNotFoundError:
        return "source"
