"""Costs that are counted: sums of products of axis lengths.

Parameters and multiply-adds of any cut follow from the kept lengths alone, so a solver can ask for the cost of
thousands of candidates without cutting.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from secateur.coupling import Axis, Coupling, Groups
from secateur.graph import Graph


@dataclass(frozen=True)
class Term:
    """``constant * product of kept lengths``, for one layer."""

    layer: str
    constant: float
    axes: tuple[Axis, ...]


class Cost(ABC):
    """A cost model over a traced program. ``kind`` is the budget it answers."""

    kind = ""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    @abstractmethod
    def terms(self, groups: Groups) -> list[Term]:
        """What the cost is made of."""

    def bind(self, groups: Groups) -> BoundCost:
        """The cost of cuts of these groups."""
        return BoundCost(self.kind, groups.coupling, self.terms(groups))


@dataclass(frozen=True)
class BoundCost:
    """A cost ready to be evaluated for any choice of what lives."""

    kind: str
    coupling: Coupling
    parts: Sequence[Term]

    @cached_property
    def _layout(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        axes: dict[int, Axis] = {id(a): a for t in self.parts for a in t.axes}
        order = {key: i for i, key in enumerate(axes)}
        classes = [self.coupling.classes(a) for a in axes.values()]
        starts = np.cumsum([0, *(len(c) for c in classes)])[:-1].astype(np.int64)
        flat = np.concatenate(classes) if classes else np.empty(0, dtype=np.int64)
        constants = np.array([t.constant for t in self.parts])
        which = np.array([order[id(a)] for t in self.parts for a in t.axes], dtype=np.int64)
        owner = np.array([i for i, t in enumerate(self.parts) for _ in t.axes], dtype=np.int64)
        return flat, starts, constants, which, owner

    def by_term(self, alive: np.ndarray) -> np.ndarray:
        """Each term's cost; ``alive`` is bool ``[labels]``."""
        flat, starts, constants, which, owner = self._layout
        values = constants.copy()
        if len(flat):
            counts = np.add.reduceat(alive[flat].astype(np.int64), starts)
            np.multiply.at(values, owner, counts[which])
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
