"""Costs that are counted: sums of products of axis lengths.

Parameters and multiply-adds of any cut follow from the kept lengths alone, so a solver can ask for the cost of
thousands of candidates without cutting.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from torch import fx

from secateur.coupling import Axis, Coupling, Groups
from secateur.graph import Graph


@dataclass(frozen=True)
class Term:
    """``constant * product of kept lengths``, for one layer.

    ``source`` is the call or the parameter that costs it: where that goes with a removed block, so does the term.
    ``quanta`` are what each length is rounded up to a multiple of, where a runtime works in blocks of so many; empty
    where it does not. A ``ragged`` term is what it costs not to fill the last block: a length that fills it counts 0.
    """

    layer: str
    constant: float
    axes: tuple[Axis, ...]
    source: fx.Node | str = ""
    quanta: tuple[int, ...] = ()
    ragged: bool = False

    @property
    def dense(self) -> float:
        """The term before any cut."""
        lengths = np.array([len(a) for a in self.axes], dtype=np.int64)
        return self.constant * prod(counted(lengths, np.array(self.blocks), self.ragged).tolist())

    @property
    def blocks(self) -> tuple[int, ...]:
        """The quantum of every axis."""
        return self.quanta or (1,) * len(self.axes)


def counted(lengths: np.ndarray, quantum: np.ndarray | int, ragged: np.ndarray | bool) -> np.ndarray:
    """Lengths as a term counts them, int64 ``[n]``; see :class:`Term`."""
    filled = -(-lengths // quantum) * quantum
    return np.where(ragged, np.where(filled == lengths, 0, lengths), filled)


class Cost(ABC):
    """A cost model over a traced program. ``kind`` is the budget it answers."""

    kind = ""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    @abstractmethod
    def terms(self, groups: Groups) -> list[Term]:
        """What the cost is made of."""

    def bind(self, groups: Groups) -> BoundCost:
        """The cost of cuts of these groups, without the blocks that are removed from them."""
        terms, removal = self.terms(groups), groups.removal
        left = [t for t in terms if t.source not in removal.gone and t.source not in removal.state]
        dense = sum(t.dense for t in terms if t.source not in removal.unread)
        return BoundCost(self.kind, groups.coupling, left, dense)

    def of_blocks(self, groups: Groups) -> dict[str, float]:
        """What each removable block costs before any cut, by name; it is saved when the block alone goes."""
        by_source: dict[fx.Node | str, float] = {}
        for term in self.terms(groups):
            by_source[term.source] = by_source.get(term.source, 0.0) + term.dense
        return {
            block.name: sum(by_source.get(n, 0.0) for n in block.nodes)
            + sum(by_source.get(name, 0.0) for name in block.params)
            for block in groups.blocks
            if not block.locked
        }


@dataclass(frozen=True)
class Layout:
    """Terms as arrays: a term is its constant times the kept lengths of its axes.

    Args:
        classes: int64, of the positions of all axes that live and die differently, one after the other.
        starts: int64, where each of these axes begins.
        constants: float64 ``[terms]``.
        which: int64 ``[factors]``: the axis that a factor of a term is the length of.
        owner: int64 ``[factors]``: the term, ascending.
        quanta, ragged: int64 and bool ``[factors]``: how a length counts there; see :class:`Term`.
    """

    classes: np.ndarray
    starts: np.ndarray
    constants: np.ndarray
    which: np.ndarray
    owner: np.ndarray
    quanta: np.ndarray
    ragged: np.ndarray

    def counts(self, alive: np.ndarray) -> np.ndarray:
        """int64 ``[axes]``: kept lengths."""
        return np.add.reduceat(alive[self.classes], self.starts, dtype=np.int64)

    def stepped(self, lengths: np.ndarray, factors: np.ndarray | slice) -> np.ndarray:
        """Kept lengths, int64 ``[axes]``, as they count in these factors."""
        return counted(lengths[self.which[factors]], self.quanta[factors], self.ragged[factors])


@dataclass(frozen=True)
class BoundCost:
    """A cost ready to be evaluated for any choice of what lives.

    ``dense`` is the cost of the whole model, before any cut and with all of its blocks.
    """

    kind: str
    coupling: Coupling
    parts: Sequence[Term]
    dense: float

    @cached_property
    def layout(self) -> Layout:
        """The terms as arrays."""
        distinct: dict[int, np.ndarray] = {}
        which, owner = [], []
        for i, term in enumerate(self.parts):
            for axis in term.axes:
                classes = self.coupling.classes(axis)
                distinct.setdefault(id(classes), classes)
                which.append(id(classes))
                owner.append(i)
        order = {key: i for i, key in enumerate(distinct)}
        lengths = np.array([len(c) for c in distinct.values()], dtype=np.int64)
        return Layout(
            np.concatenate(list(distinct.values())) if distinct else np.empty(0, dtype=np.int64),
            np.cumsum(lengths) - lengths,
            np.array([t.constant for t in self.parts]),
            np.array([order[key] for key in which], dtype=np.int64),
            np.array(owner, dtype=np.int64),
            np.array([q for t in self.parts for q in t.blocks], dtype=np.int64),
            np.array([t.ragged for t in self.parts for _ in t.axes], dtype=bool),
        )

    def by_term(self, alive: np.ndarray) -> np.ndarray:
        """Each term's cost; ``alive`` is bool ``[labels]``."""
        layout = self.layout
        values = layout.constants.copy()
        if len(layout.classes):
            np.multiply.at(values, layout.owner, layout.stepped(layout.counts(alive), slice(None)))
        return values

    def of(self, alive: np.ndarray) -> float:
        """The whole cost."""
        return float(self.by_term(alive).sum())

    def by_layer(self, alive: np.ndarray) -> dict[str, float]:
        """The cost of each layer."""
        out: dict[str, float] = {}
        for term, value in zip(self.parts, self.by_term(alive).tolist(), strict=True):
            out[term.layer] = out.get(term.layer, 0.0) + value
        return out
