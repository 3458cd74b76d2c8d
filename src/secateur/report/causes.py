"""Locks gathered by what causes them, most parameters first; for the screen and for the picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from secateur.report.names import pattern


@dataclass(frozen=True)
class Cause:
    """A cause, and all locks that go back to it.

    Args:
        locks: as ``analysis.json`` has them.
        params: at the locked positions; a weight that is locked along two axes counts once.
    """

    locks: tuple[Mapping[str, Any], ...]
    params: float

    @property
    def first(self) -> Mapping[str, Any]:
        """The lock that stands for all."""
        return self.locks[0]


def by_cause(locked: Iterable[Mapping[str, Any]]) -> list[Cause]:
    """The causes of locks, most parameters first. Those that differ in a number alone, such as an index, are one."""
    gathered: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for lock in locked:
        gathered.setdefault((lock["operator"], pattern(lock["reason"])), []).append(lock)
    causes = [Cause(tuple(locks), held(locks)) for locks in gathered.values()]
    return sorted(causes, key=lambda cause: -cause.params)


def held(locks: Iterable[Mapping[str, Any]]) -> float:
    """Parameters at the locked positions, each weight counted once, along the axis that is locked most."""
    params: dict[str, dict[int, float]] = {}
    for lock in locks:
        axes = params.setdefault(lock["param"], {})
        axes[lock["axis"]] = axes.get(lock["axis"], 0.0) + lock["params"]
    return sum(max(axes.values()) for axes in params.values())
