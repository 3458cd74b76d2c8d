"""Costs of a choice that changes unit by unit, brought up to date by what a few units change.

Asking a cost anew for every candidate takes time with the size of the model, and there are as many candidates as the
model has groups. What one group touches does not grow with the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from secateur.cost.record import BoundCost
from secateur.coupling import Coupling


@dataclass(frozen=True)
class Change:
    """What some atoms change that come back, or go.

    Args:
        labels: int64, the classes that live again, or no more.
        lives: which of the two.
        costs: the new costs.
        parts: for each cost, which axes and terms change, with their new lengths and values.
    """

    labels: np.ndarray
    lives: bool
    costs: tuple[float, ...]
    parts: tuple[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], ...]


class Tally:
    """Several costs of one choice.

    Args:
        coupling: the program's labels.
        costs: bound to it.
    """

    def __init__(self, coupling: Coupling, costs: Sequence[BoundCost]) -> None:
        self.coupling = coupling
        self._sums = [_Sum(cost, coupling.facts.size) for cost in costs]
        self.alive = np.ones(coupling.facts.size, dtype=bool)

    def start(self, alive: np.ndarray) -> None:
        """Begins with a choice: bool ``[labels]``, from :meth:`Coupling.alive`."""
        self.alive = alive.copy()
        for one in self._sums:
            one.start(alive)

    @property
    def costs(self) -> tuple[float, ...]:
        """What the choice costs."""
        return tuple(one.total for one in self._sums)

    @cached_property
    def _products(self) -> tuple[np.ndarray, np.ndarray]:
        """By atom: the rows of the table of products that it stands in."""
        _, atoms = self.coupling.solution.products
        rows = np.repeat(np.arange(len(atoms)), atoms.shape[1] if atoms.ndim == 2 else 0)
        return _grouped(atoms.reshape(-1), rows, self.coupling.facts.size)

    def with_atoms(self, atoms: np.ndarray) -> Change:
        """What changes when these atoms live too; the choice stays as it is."""
        atoms = atoms[~self.alive[atoms]]
        wholes, factors = self.coupling.solution.products
        rows = self._rows(atoms)
        self.alive[atoms] = True
        complete = rows[self.alive[factors[rows]].all(axis=1)]
        self.alive[atoms] = False
        return self._change(np.concatenate([atoms, wholes[complete]]), True)

    def without_atoms(self, atoms: np.ndarray) -> Change:
        """What changes when these atoms go too."""
        atoms = atoms[self.alive[atoms]]
        wholes = self.coupling.solution.products[0][self._rows(atoms)]
        return self._change(np.concatenate([atoms, wholes[self.alive[wholes]]]), False)

    def _rows(self, atoms: np.ndarray) -> np.ndarray:
        return _counted(np.sort(_members(*self._products, atoms)))[0]

    def _change(self, labels: np.ndarray, lives: bool) -> Change:
        found = [one.with_labels(labels, 1 if lives else -1) for one in self._sums]
        return Change(labels, lives, tuple(total for total, _ in found), tuple(part for _, part in found))

    def take(self, change: Change) -> None:
        """Makes the change that was asked about last."""
        self.alive[change.labels] = change.lives
        for one, total, part in zip(self._sums, change.costs, change.parts, strict=True):
            one.take(total, part)


class _Sum:
    """One cost: the kept length of each axis, the value of each term, and their sum."""

    def __init__(self, cost: BoundCost, size: int) -> None:
        self.cost, self.layout = cost, cost.layout
        layout = self.layout
        lengths = np.diff(np.append(layout.starts, len(layout.classes)))
        axes = np.repeat(np.arange(len(lengths)), lengths)
        self.axes_of = _grouped(layout.classes, axes, size)
        self.terms_of = _grouped(layout.which, layout.owner, len(lengths))
        terms = len(layout.constants)
        self.factors_of = _grouped(layout.owner, np.arange(len(layout.owner)), terms)
        self.lengths, self.values, self.total = np.empty(0), np.empty(0), 0.0

    def start(self, alive: np.ndarray) -> None:
        self.lengths = self.layout.counts(alive) if len(self.layout.classes) else np.empty(0, dtype=np.int64)
        self.values = self.cost.by_term(alive)
        self.total = float(self.values.sum())

    def with_labels(
        self, labels: np.ndarray, sign: int
    ) -> tuple[float, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        more = np.sort(_members(*self.axes_of, labels))
        axes, added = _counted(more)
        lengths = self.lengths[axes] + sign * added
        terms, _ = _counted(np.sort(_members(*self.terms_of, axes)))
        before = self.lengths[axes]
        self.lengths[axes] = lengths
        owners = np.repeat(np.arange(len(terms)), self.factors_of[1][terms + 1] - self.factors_of[1][terms])
        values = self.layout.constants[terms]
        factors = _members(*self.factors_of, terms)
        np.multiply.at(values, owners, self.layout.stepped(self.lengths, factors))
        self.lengths[axes] = before
        total = self.total + float((values - self.values[terms]).sum())
        return total, (axes, lengths, terms, values)

    def take(self, total: float, part: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]) -> None:
        axes, lengths, terms, values = part
        self.lengths[axes], self.values[terms], self.total = lengths, values, total


def _grouped(keys: np.ndarray, values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Values by key: all of them in the order of their keys, and for each key where its own begin and end."""
    order = np.argsort(keys, kind="stable")
    bounds = np.concatenate([[0], np.cumsum(np.bincount(keys, minlength=count))])
    return values[order], bounds


def _members(values: np.ndarray, bounds: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """The values of several keys, one after the other."""
    counts = bounds[keys + 1] - bounds[keys]
    ends = np.cumsum(counts)
    inside = np.arange(int(counts.sum())) - np.repeat(ends - counts, counts)
    return values[np.repeat(bounds[keys], counts) + inside]


def _counted(ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different values of a sorted array, and how often each stands in it."""
    first = np.flatnonzero(np.diff(ordered, prepend=-1))
    return ordered[first], np.diff(np.append(first, len(ordered)))
