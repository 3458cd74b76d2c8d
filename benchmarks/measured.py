"""What the workers of the benchmarks measure alike: parameters, memory, reasons of locks; and how they write it."""

from __future__ import annotations

import json
import os
import re
import resource
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch import nn

from secateur.coupling import Groups, Lock


def size(model: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in model.parameters())


def peak() -> int:
    """The process's largest resident memory so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def heaviest(locks: Iterable[Lock], weigh: Callable[[Lock], int]) -> list[tuple[str, int]]:
    """The three reasons that lock most parameters, and how many each."""
    weight: Counter[str] = Counter()
    for lock in locks:
        weight[f"{lock.operator}: {lock.reason}"] += weigh(lock)
    return [(words, count) for words, count in weight.most_common(3) if count]


def touched(groups: Groups) -> Callable[[Lock], int]:
    """Parameters of the locked positions, whatever their other axes allow."""
    return lambda lock: groups.graph.tensor(lock.param).numel() * lock.positions // lock.size


def held(groups: Groups) -> Callable[[Lock], int]:
    """Parameters that are locked along all of their axes, by a lock that one of these axes has."""
    share: dict[str, float] = {}
    for name, axes in groups.coupling.state_axes.items():
        share[name] = 1.0 if isinstance(groups.graph.tensor(name), nn.Parameter) else 0.0
        for axis in axes:
            share[name] *= float((groups.coupling.classes(axis) == 0).mean()) if len(axis) else 1.0
    return lambda lock: round(groups.graph.tensor(lock.param).numel() * share[lock.param])


def portable(record: Any) -> Any:
    """A record without the folders that packages and this repository stand in on the machine that measured it."""
    if isinstance(record, dict):
        return {key: portable(value) for key, value in record.items()}
    if isinstance(record, list):
        return [portable(value) for value in record]
    return _FOLDERS.sub("", record) if isinstance(record, str) else record


_ROOT = re.escape(str(Path(__file__).resolve().parents[1]))
_FOLDERS = re.compile(rf"(/[^\s'\"():]+)?/(site-packages|dist-packages|lib/python3\.\d+)/|{_ROOT}/")


def write_record(record: dict[str, Any], target: str) -> None:
    """Writes a record, whole or not at all."""
    partial = Path(f"{target}.part")
    partial.write_text(json.dumps(record, allow_nan=True))
    os.replace(partial, target)
