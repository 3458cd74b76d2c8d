"""Units that an operator takes apart at different places, so that two of them cannot change places.

A slice, a split or a list in the code takes some of the positions of an axis. Units of one group have equally many of
them, but it may be the last ones of one unit and the first ones of another: of maps that were flattened, a slice that
begins in the middle of one and ends in the middle of another. Each can be removed; they are not alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch import fx

from secateur.coupling.couple import Coupling
from secateur.coupling.facts import Axis
from secateur.coupling.units import Group
from secateur.coupling.values import literal_indices


def taken_apart(coupling: Coupling, groups: Sequence[Group]) -> Iterator[str]:
    """Names of the groups of whose units some operator takes different places, counted within each unit."""
    owner = np.full(coupling.facts.size, -1)
    place = np.zeros(coupling.facts.size, dtype=np.int64)
    for index, group in enumerate(groups):
        owner[group.atoms] = index
        place[group.atoms] = np.arange(group.units)
    for axis, positions in _taken(coupling):
        where, atoms = coupling.pairs(axis)
        ours = owner[atoms] >= 0
        where, atoms = where[ours], atoms[ours]
        if len(atoms) == len(np.unique(atoms)):  # each unit stands there once
            continue
        table = _ranks(atoms, where, positions, len(axis))
        for index in np.unique(owner[table[0]]).tolist():
            mine = owner[table[0]] == index
            units, ranks = place[table[0][mine]], table[1][mine]
            if not _same_for_all(units, ranks, groups[index].units):
                yield groups[index].name


def _taken(coupling: Coupling) -> Iterator[tuple[Axis, np.ndarray]]:
    """Axes of which an operator takes part, and the positions that it takes, in order."""
    for axis, start, stop in coupling.facts.parts:
        yield axis, np.arange(start, stop)
    for node, notes in coupling.facts.notes.items():
        if "looked_up" in notes:
            yield notes["looked_up"], _listed(node, notes["looked_up"])


def _listed(node: fx.Node, axis: Axis) -> np.ndarray:
    found = literal_indices(node, len(axis))
    assert found is not None, node
    return found[1]


def _ranks(
    atoms: np.ndarray, where: np.ndarray, positions: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """For each position that is taken and each atom there: the atom, and which of its positions that is.

    Ordered by atom, then as they are taken.
    """
    order = np.lexsort((where, atoms))
    atoms, where = atoms[order], where[order]
    first = np.r_[True, atoms[1:] != atoms[:-1]]
    start = np.maximum.accumulate(np.where(first, np.arange(len(atoms)), 0))
    rank = np.arange(len(atoms)) - start
    by_position = np.argsort(where, kind="stable")
    bounds = np.searchsorted(where[by_position], np.arange(size + 1))
    counts = bounds[positions + 1] - bounds[positions]
    ends = np.cumsum(counts)
    within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
    taken = by_position[np.repeat(bounds[positions], counts) + within]
    by_atom = np.argsort(atoms[taken], kind="stable")
    return atoms[taken][by_atom], rank[taken][by_atom]


def _same_for_all(units: np.ndarray, ranks: np.ndarray, count: int) -> bool:
    """Whether every unit of a group gives the same of its positions, in the same order."""
    if len(np.unique(units)) < count or len(units) % count:
        return False
    table = ranks[np.argsort(units, kind="stable")].reshape(count, -1)
    counts = np.bincount(units, minlength=count)
    return bool((counts == counts[0]).all() and (table == table[0]).all())
