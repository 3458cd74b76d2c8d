"""Locks: the axes that cannot be cut, each traced back to what first made it so.

The facts say for every pinned label which pin it goes back to, and the pin has its node. Here these become words: the
operator, the line of the user's code, and what would free the axis, from :mod:`secateur.coupling.remedies`. Axes of
kernels stay out: they are no choice that anybody has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import fx

from secateur.coupling.classes import DisjointSets, distinct
from secateur.coupling.couple import Coupling
from secateur.coupling.facts import Axis, Origin, Pin
from secateur.coupling.remedies import KERNEL, Remedy, remedy_for

_UNEXPLAINED = Pin(np.empty(0, dtype=np.int64), "", None)


@dataclass(frozen=True)
class Cause:
    """What locks something.

    Args:
        kind: one word for it, such as ``output``, ``lookup`` or ``unknown operator``.
        operator: the operator, ``"output"`` for what the model returns, or ``"input"`` for what it is given.
        reason: in words.
        source: file and line of the user's code, where the exporter knows it, else ``"-"``.
        layer: path of the module that the line belongs to; empty for the model itself.
        remedy: what would free it.
    """

    kind: str
    operator: str
    reason: str
    source: str
    layer: str
    remedy: str


@dataclass(frozen=True)
class Lock:
    """Positions of a parameter axis that cannot be cut, and why.

    Args:
        param: name of the parameter or buffer.
        axis: which of its axes.
        size: length of the axis.
        spans: the locked positions, as ``(first, last + 1)``.
        causes: what locks them; all of these must go to free the axis, and the first comes first in the program.
        component: a number that axes have in common which are locked as one, such as those of a residual stream.
    """

    param: str
    axis: int
    size: int
    spans: tuple[tuple[int, int], ...]
    causes: tuple[Cause, ...]
    component: int

    def __str__(self) -> str:
        further = "".join(f"; and {c.reason} ({c.operator})" for c in self.causes[1:])
        return (
            f"{self.param} axis {self.axis}, {self.positions} of {self.size}: {self.reason} ({self.operator} at "
            f"{self.source}){further}. To free it: {self.remedy}"
        )

    @property
    def positions(self) -> int:
        """How many of its positions are locked."""
        return sum(stop - start for start, stop in self.spans)

    @property
    def operator(self) -> str:
        """The operator of the first cause."""
        return self.causes[0].operator

    @property
    def reason(self) -> str:
        """The first cause in words."""
        return self.causes[0].reason

    @property
    def source(self) -> str:
        """File and line of the first cause."""
        return self.causes[0].source

    @property
    def remedy(self) -> str:
        """What would free it from the first cause."""
        return self.causes[0].remedy


def find_locks(coupling: Coupling) -> Iterator[Lock]:
    """The locks of every parameter and buffer, one for each cause that its positions go back to."""
    explained = _Explained(coupling)
    for name, axes in coupling.state_axes.items():
        for i, axis in enumerate(axes):
            where = (
                np.nonzero(coupling.classes(axis) == 0)[0] if len(axis) > 1 else np.empty(0, dtype=np.int64)
            )
            if len(where):
                yield from explained.locks(name, i, axis, where)


class _Explained:
    """Pins in words, each worked out once."""

    def __init__(self, coupling: Coupling) -> None:
        self.coupling, self.pins = coupling, coupling.facts.pins
        solution = coupling.solution
        self.components, self.reasons = solution.components, solution.reasons
        # All that pins a class, not only what came first: freeing one of two causes frees nothing.
        labels = np.concatenate([np.empty(0, dtype=np.int64), *(pin.labels for pin in self.pins)])
        pins = np.repeat(np.arange(len(self.pins)), [len(pin.labels) for pin in self.pins])
        classes = self.components[labels]
        order = np.lexsort((pins, classes))
        self.classes, self.by_class = classes[order], pins[order]
        self.known: dict[int, tuple[Remedy, Cause]] = {}
        self.together = self._together()

    def _together(self) -> dict[int, int]:
        """For classes that stand first in a locked axis: one number for all that are locked as one.

        Pinned axes share no labels, but they share causes: an axis belongs with what it met.
        """
        sets = DisjointSets[object]()
        for pin in self.pins:
            if len(pin.labels):
                origin = (Origin(pin.reason, pin.node, pin.made), len(pin.labels))
                sets.unite(int(self.components[pin.labels[0]]), origin)
        for one, other, size in self.coupling.facts.met:
            if one is not None and other is not None:
                sets.unite((one, size), (other, size))
        numbers: dict[object, int] = {}
        classes = [key for key in sets.parent if isinstance(key, int)]
        return {key: numbers.setdefault(sets.root(key), len(numbers)) for key in classes}

    def locks(self, name: str, i: int, axis: Axis, where: np.ndarray) -> Iterator[Lock]:
        firsts = self.reasons[axis[where]]
        found: dict[tuple[str, str], list[int]] = {}
        for first in distinct(firsts).tolist():
            cause = self.cause(first)
            found.setdefault((cause.operator, cause.reason), []).append(first)
        for indices in found.values():
            mine = where[np.isin(firsts, indices)]
            classes = distinct(self.components[axis[mine]])
            causes = self._causes(indices[0], classes)
            if not any(cause.kind == KERNEL for cause in causes):
                first_class = int(self.components[axis[mine[0]]])
                component = self.together.get(first_class, -first_class)
                yield Lock(name, i, len(axis), _spans(mine), causes, component)

    def _causes(self, first: int, classes: np.ndarray) -> tuple[Cause, ...]:
        starts, stops = (np.searchsorted(self.classes, classes, side=side) for side in ("left", "right"))
        others = {int(p) for a, b in zip(starts, stops, strict=True) for p in self.by_class[a:b]}
        out: dict[tuple[str, str], Cause] = {}
        for index in (first, *sorted(others)):
            cause = self.cause(index)
            out.setdefault((cause.operator, cause.reason), cause)
        return tuple(out.values())

    def cause(self, index: int) -> Cause:
        """The cause that a pin stands for; -1 for none known."""
        if index not in self.known:
            pin = self.pins[index] if index >= 0 else _UNEXPLAINED
            remedy = remedy_for(pin)
            if remedy.tied:
                pin = _where_tied(self.coupling, pin)
            source = source_of(pin.node)
            at = pin.at if source == "-" else pin.node
            self.known[index] = remedy, Cause(
                remedy.kind, remedy.operator(pin), remedy.reason(pin), source_of(at), layer_path(at),
                remedy.words(pin),
            )  # fmt: skip
        return self.known[index][1]


def _where_tied(coupling: Coupling, pin: Pin) -> Pin:
    """The pin with the node at which the last two of its positions were made one, in the order of the program."""
    labels = distinct(pin.labels)
    component = coupling.solution.components
    sets = DisjointSets[int]()
    for first, second, node in coupling.facts.ties:
        inside = np.isin(component[first], component[labels])
        for a, b in zip(first[inside].tolist(), second[inside].tolist(), strict=True):
            sets.unite(a, b)
        if node is not None and inside.any() and len({sets.root(x) for x in labels.tolist()}) == 1:
            return Pin(pin.labels, pin.reason, node)
    return pin


def _spans(positions: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Sorted positions as runs: ``[0, 1, 2, 5] -> ((0, 3), (5, 6))``."""
    breaks = np.nonzero(np.diff(positions) != 1)[0] + 1
    return tuple((int(run[0]), int(run[-1]) + 1) for run in np.split(positions, breaks))


_TORCH = str(Path(torch.__file__).parent)


def layer_path(node: fx.Node | None) -> str:
    """Path of the module whose forward pass a node belongs to; empty for the model itself."""
    stack = (node.meta.get("nn_module_stack") if node is not None else None) or {}
    return str(list(stack.values())[-1][0]) if stack else ""


def source_of(node: fx.Node | None) -> str:
    """The innermost line of the user's code that made a node, ``file:line 'code'``, or ``-``."""
    file, line, code = place_of(node)
    return f"{file}:{line} '{code}'" if file else "-"


def place_of(node: fx.Node | None) -> tuple[str, int, str]:
    """The innermost line of the user's code that made a node: file, number, text; an empty file if not known."""
    trace = "" if node is None else str(node.meta.get("stack_trace") or "")
    found = re.findall(r'File "([^"]+)", line (\d+), in \S+\n\s*(.+)', trace)
    found = [frame for frame in found if not frame[0].startswith(_TORCH)] or found
    if not found:
        return "", 0, ""
    file, line, code = found[-1]
    return file, int(line), code.strip()
