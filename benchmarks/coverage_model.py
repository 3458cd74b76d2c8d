"""One model of the coverage benchmark, in this process: what its workers do alike around what each of them measures."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable
from typing import Any

import torch
from measured import write_record
from torch import Tensor
from torch.utils import _pytree as pytree

Measure = Callable[[Any, str, dict[str, Any]], None]
"""From a source, a model's name and a record to what comes into the record; what is known when it fails stays there."""


def measured(measure: Measure, kind: str, name: str, target: str) -> int:
    """Measures one model of a source, ``timm``, ``torchvision`` or ``hf``, and writes what came of it as JSON."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.manual_seed(0)
    record: dict[str, Any] = {"source": kind, "model": name, "ran": False, "problem": None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            measure(importlib.import_module(f"coverage_{kind}"), name, record)
        except Exception as error:
            record["problem"] = words(error)
            raise_if_asked()
    write_record(record, target)
    return 0


def raise_if_asked() -> None:
    """Raises the error that is being handled, where ``COVERAGE_TRACEBACK`` asks for it."""
    if os.environ.get("COVERAGE_TRACEBACK"):
        raise


def words(error: Exception) -> str:
    """The first line of an error, with its kind."""
    line = (str(error).strip().splitlines() or ["no message"])[0]
    return f"{type(error).__name__}: {line[:300]}"


def tensors(outputs: Any) -> list[Tensor]:
    """The tensors among a model's outputs, those of Hugging Face's classes too."""
    plain = dict(outputs) if hasattr(outputs, "items") and not isinstance(outputs, dict) else outputs
    return [t for t in pytree.tree_leaves(plain) if isinstance(t, Tensor)]
