"""Units and groups: from solved labels to what can be removed one by one.

A unit is an atom that at least one parameter axis refers to. Units belong to one group when they touch the
same axes in the same way (as often, and at the same stride), so heads, head dimensions, groups of a
convolution and channels inside them come apart although they share parameters.

Most axes of a program hold the same classes as many others, and :meth:`Coupling.classes` gives equal ones as one
object: what follows looks at each of those once, however many axes have it.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from secateur.coupling.classes import distinct
from secateur.coupling.couple import Coupling
from secateur.coupling.facts import Axis
from secateur.coupling.values import Value


@dataclass(frozen=True)
class Member:
    """One parameter axis that a group reaches into.

    Args:
        param: name of the parameter or buffer.
        axis: which of its axes.
        positions: int64 ``[units, multiplicity]``: the positions that each unit takes.
        consumes: whether a layer sums over this axis, so that the slice is what reads the unit.
    """

    param: str
    axis: int
    positions: np.ndarray
    consumes: bool = False

    @property
    def multiplicity(self) -> int:
        """Positions for each unit."""
        return int(self.positions.shape[1])


@dataclass(frozen=True)
class Group:
    """Units that can be removed one by one, each with everything it is coupled to.

    Args:
        name: the first member's parameter and axis, ``"layer1.0.conv1.weight:0"``.
        atoms: int64 ``[units]``.
        members: parameter axes that the units reach into.
    """

    name: str
    atoms: np.ndarray
    members: tuple[Member, ...]

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.atoms)


def find_units(coupling: Coupling) -> tuple[tuple[Group, ...], dict[int, list[Axis]]]:
    """All groups, in the order in which parameters first name their units.

    Returns:
        the groups, of two units and more, and for each atom that has no fellow the axes that it stands in.
    """
    known: dict[int, _Incidence] = {}
    spots = [
        (name, i, axis, _incidence(known, coupling, axis))
        for name, axes in coupling.state_axes.items()
        for i, axis in enumerate(axes)
        if len(axis) > 1
    ]
    inside = list(known.values())
    # Units that differ in which part of an activation they stand in must not be exchanged either: removing
    # all of one part would leave an axis empty.
    for axis in _activations(coupling):
        _incidence(known, coupling, axis)
    every = list(known.values())
    size = coupling.facts.size
    clusters = _clusters(_in_order(size, inside), _signatures(size, every))
    clusters, alone = _together(size, inside, every, clusters)
    left = {
        atom: [axis for _, _, axis, incidence in spots if atom in incidence.atoms] for atom in alone.tolist()
    }
    return tuple(_build(coupling, spots, clusters)), left


def consumed(coupling: Coupling) -> frozenset[tuple[str, int]]:
    """Parameter axes that a layer sums over."""
    summed = {id(axis) for axis in coupling.facts.consumed}
    named = coupling.state_axes.items()
    return frozenset((n, i) for n, axes in named for i, a in enumerate(axes) if id(a) in summed)


@dataclass(frozen=True)
class _Incidence:
    """Which atoms stand at which positions of one axis.

    Args:
        atoms: int64 ``[k]``: distinct atoms, ascending.
        starts: int64 ``[k]``: where the positions of each begin.
        counts: int64 ``[k]``: how many positions each has.
        positions: int64 ``[n]``: by atom, then ascending.
    """

    atoms: np.ndarray
    starts: np.ndarray
    counts: np.ndarray
    positions: np.ndarray

    @classmethod
    def of(cls, coupling: Coupling, classes: Axis) -> _Incidence:
        found, where = coupling.solution.atoms_of(classes)
        if (found[1:] <= found[:-1]).any():
            order = np.lexsort((where, found))
            found, where = found[order], where[order]
        first = np.ones(len(found), dtype=bool)
        first[1:] = found[1:] != found[:-1]
        starts = np.nonzero(first)[0]
        ends = np.append(starts[1:], len(found))
        return cls(found[starts], starts, ends - starts, where)

    @property
    def strides(self) -> np.ndarray:
        """int64 ``[k]``: from each atom's first position to its second, 0 where it has one."""
        second = np.minimum(self.starts + 1, len(self.positions) - 1)
        return np.where(self.counts > 1, self.positions[second] - self.positions[self.starts], 0)


def _incidence(known: dict[int, _Incidence], coupling: Coupling, axis: Axis) -> _Incidence:
    classes = coupling.classes(axis)
    if id(classes) not in known:
        known[id(classes)] = _Incidence.of(coupling, classes)
    return known[id(classes)]


def _in_order(size: int, incidences: list[_Incidence]) -> np.ndarray:
    """All atoms that parameters refer to, by the first axis that does and the place they have in it."""
    seen = np.zeros(size, dtype=bool)
    out = [np.empty(0, dtype=np.int64)]
    for incidence in incidences:
        new = ~seen[incidence.atoms]
        atoms = incidence.atoms[new]
        seen[atoms] = True
        out.append(atoms[np.argsort(incidence.positions[incidence.starts[new]], kind="stable")])
    return np.concatenate(out)


def _activations(coupling: Coupling) -> Iterator[Axis]:
    """Each axis of a value once, if it has positions to tell apart."""
    seen: set[int] = set()
    for value in coupling.values.values():
        for item in value if isinstance(value, list) else (value,):
            for axis in item.axes if isinstance(item, Value) else ():
                if id(axis) not in seen:
                    seen.add(id(axis))
                    if len(axis) > 1 and (axis[0] or axis.any()):
                        yield axis


def _signatures(size: int, incidences: list[_Incidence], strides: bool = True) -> np.ndarray:
    """uint64 ``[labels]``: a hash of how each atom stands in every axis: how often and, if asked, at which stride."""
    signature = np.zeros(size, dtype=np.uint64)
    for salt, incidence in enumerate(incidences, start=1):
        mixed = incidence.counts.astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
        if strides:
            mixed += incidence.strides.astype(np.uint64)
        mixed *= np.uint64(0x165667B19E3779F9)
        mixed ^= np.uint64(salt * 0x9E3779B97F4A7C15 % 2**64)
        mixed ^= mixed >> np.uint64(29)
        signature[incidence.atoms] += mixed * np.uint64(0xBF58476D1CE4E5B9)
    return signature


def _clusters(atoms: np.ndarray, signature: np.ndarray) -> list[np.ndarray]:
    """Atoms of one signature together; clusters and the atoms in each keep the order given."""
    if not len(atoms):
        return []
    _, first, which = np.unique(signature[atoms], return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))[which]
    order = np.argsort(rank, kind="stable")
    return np.split(atoms[order], np.cumsum(np.bincount(rank))[:-1])


def _together(
    size: int, inside: list[_Incidence], every: list[_Incidence], clusters: list[np.ndarray]
) -> tuple[list[np.ndarray], np.ndarray]:
    """Groups of one unit, put together where they differ only in how far apart their positions lie.

    Returns:
        the clusters of two atoms and more, and the atoms that are left alone.
    """
    lone = np.array([c[0] for c in clusters if len(c) == 1], dtype=np.int64)
    if not len(lone):
        return clusters, lone
    alike = _clusters(lone, _signatures(size, every, strides=False))
    grouped = {int(a[0]): a for a in alike if len(a) > 1 and _apart(size, inside, a)}
    joined = np.concatenate([np.empty(0, dtype=np.int64), *grouped.values()])
    out = [grouped.get(int(c[0]), c) for c in clusters if len(c) > 1 or int(c[0]) in grouped]
    return out, lone[~np.isin(lone, joined)]


def _apart(size: int, incidences: list[_Incidence], atoms: np.ndarray) -> bool:
    """Whether no two of these atoms share a position: heads and the dimensions inside them do."""
    mine = np.zeros(size, dtype=bool)
    mine[atoms] = True
    for incidence in incidences:
        positions = incidence.positions[np.repeat(mine[incidence.atoms], incidence.counts)]
        if len(distinct(positions)) < len(positions):
            return False
    return True


def _build(
    coupling: Coupling, spots: list[tuple[str, int, Axis, _Incidence]], clusters: list[np.ndarray]
) -> Iterator[Group]:
    place = np.zeros(coupling.facts.size, dtype=np.int64)
    owner = np.full(coupling.facts.size, -1)
    for index, cluster in enumerate(clusters):
        owner[cluster] = index
        place[cluster] = np.arange(len(cluster))
    members: list[list[Member]] = [[] for _ in clusters]
    summed = consumed(coupling)
    shares: dict[int, list[tuple[int, np.ndarray]]] = {}
    for name, i, _, incidence in spots:
        if id(incidence) not in shares:
            shares[id(incidence)] = list(_shares(incidence, owner, place))
        for index, positions in shares[id(incidence)]:
            members[index].append(Member(name, i, positions, (name, i) in summed))
    names: dict[str, int] = defaultdict(int)
    for cluster, found in zip(clusters, members, strict=True):
        name = f"{found[0].param}:{found[0].axis}"
        names[name] += 1
        yield Group(f"{name}#{names[name]}" if names[name] > 1 else name, cluster, tuple(found))


def _shares(incidence: _Incidence, owner: np.ndarray, place: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """For each group with units in an axis: its index and ``[units, multiplicity]`` positions."""
    owners = owner[incidence.atoms]
    order = np.argsort(owners, kind="stable")
    grouped = owners[order]
    bounds = [0, *(np.nonzero(grouped[1:] != grouped[:-1])[0] + 1).tolist(), len(grouped)]
    for start, stop in itertools.pairwise(bounds if len(grouped) else ()):
        mine = order[start:stop]
        if grouped[start] < 0:  # locked after all
            continue
        count = int(incidence.counts[mine[0]])
        positions = np.empty((len(mine), count), dtype=np.int64)
        rows = incidence.starts[mine][:, None] + np.arange(count)
        positions[place[incidence.atoms[mine]]] = incidence.positions[rows]
        yield int(owners[mine[0]]), positions
