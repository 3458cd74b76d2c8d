"""Groups: interchangeable units, with all the parameter positions that die with each.

A unit is an atom that at least one parameter axis refers to. Units belong to one group when they touch the
same axes in the same way (as often, and at the same stride), so heads, head dimensions, groups of a
convolution and channels inside them come apart although they share parameters.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch.nn import Parameter

from secateur.coupling.contexts import ContextTable
from secateur.coupling.couple import Coupling, couple
from secateur.coupling.facts import Axis
from secateur.coupling.locks import Lock, find_locks
from secateur.coupling.lone import pin_units
from secateur.coupling.operators import Operator
from secateur.coupling.outputs import FreeOutputs
from secateur.coupling.rules import Rule
from secateur.coupling.values import Value
from secateur.errors import UnknownName
from secateur.graph import Graph


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


@dataclass(frozen=True)
class Groups:
    """All groups of a program, what is locked, and the coupling they come from."""

    graph: Graph
    coupling: Coupling
    groups: tuple[Group, ...]
    locked: tuple[Lock, ...]
    prunable_share: float
    unknown: Mapping[str, int]

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self.groups)

    def __len__(self) -> int:
        return len(self.groups)

    @cached_property
    def consumed(self) -> frozenset[tuple[str, int]]:
        """``(parameter, axis)`` of the axes that a layer sums over: what reads units, as opposed to what makes them."""
        return _consumed(self.coupling)

    def prunable(self, name: str) -> float:
        """Share of a parameter's entries that can go: those at a free position of at least one axis."""
        return 1.0 - _fixed_share(self.coupling, name)

    @cached_property
    def contexts(self) -> ContextTable:
        """Groups whose units may be chosen anew in each head, or in each group of a convolution."""
        return ContextTable(self)

    def __getitem__(self, name: str) -> Group:
        for group in self.groups:
            if group.name == name:
                return group
        first = f", the first '{self.groups[0].name}'" if self.groups else ""
        raise UnknownName(f"no group is called '{name}'; there are {len(self)}{first}")


def find_groups(
    graph: Graph, rules: Mapping[str, Rule | Operator] | None = None, free_outputs: FreeOutputs | None = None
) -> Groups:
    """Finds what can be removed from a traced model, and why the rest cannot.

    Args:
        graph: from :func:`secateur.trace`.
        rules: rules for operators of the user's own, by name; an :class:`Operator` where arguments hold sizes.
        free_outputs: outputs that may get narrower, as those of a model without a head: ``True`` for all, names or
            indices, or these with axes, ``{"last_hidden_state": [2]}``. What reads them must then take what is kept,
            which :attr:`Pruned.outputs` says; axis 0 is the batch and stays.

    Raises:
        UnknownName: ``free_outputs`` names what the model does not return.
    """
    coupling = couple(graph, rules, free_outputs)
    incidences = {
        (name, i): _Incidence.of(coupling, axis)
        for name, axes in coupling.state_axes.items()
        for i, axis in enumerate(axes)
        if len(axis) > 1
    }
    clusters, lone = _together(coupling, incidences, _clusters(coupling, incidences))
    groups = tuple(_build(coupling, incidences, clusters))
    if lone:
        coupling = pin_units(coupling, lone)
    locked = tuple(find_locks(coupling))
    unknown: dict[str, int] = defaultdict(int)
    for node in coupling.facts.unknown:
        unknown[str(node.target)] += 1
    return Groups(graph, coupling, groups, locked, _prunable_share(graph, coupling), dict(unknown))


@dataclass(frozen=True)
class _Incidence:
    """Which atoms stand at which positions of one axis, sorted by atom, then position."""

    atoms: np.ndarray
    positions: np.ndarray

    @classmethod
    def of(cls, coupling: Coupling, axis: Axis) -> _Incidence:
        classes = coupling.classes(axis)
        monomials = coupling.solution.monomials
        if not monomials or not any(int(c) in monomials for c in np.unique(classes)):
            where = np.nonzero(classes)[0]
            found = classes[where]
        else:
            pairs = [(a, i) for i, label in enumerate(classes.tolist()) for a in coupling.monomial(label)]
            found, where = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        order = np.lexsort((where, found))
        return cls(found[order], where[order])

    def runs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Distinct atoms, where each one's positions start, and how many it has."""
        if not len(self.atoms):
            empty = np.empty(0, dtype=np.int64)
            return empty, empty, empty
        starts = np.nonzero(np.r_[True, self.atoms[1:] != self.atoms[:-1]])[0]
        return self.atoms[starts], starts, np.diff(np.r_[starts, len(self.atoms)])


def _clusters(coupling: Coupling, incidences: Mapping[tuple[str, int], _Incidence]) -> list[list[int]]:
    """Atoms that are interchangeable, in the order in which parameters meet them."""
    size = coupling.facts.size
    signature = np.zeros(size, dtype=np.uint64)
    in_parameters = np.zeros(size, dtype=bool)
    for salt, incidence in enumerate(incidences.values()):
        atoms = _sign(signature, incidence, salt)
        in_parameters[atoms] = True
    # Units that differ in which part of an activation they stand in must not be exchanged either: removing
    # all of one part would leave an axis empty.
    for salt, axis in enumerate(_activations(coupling), start=len(incidences) + 1):
        _sign(signature, _Incidence.of(coupling, axis), salt)
    members: dict[int, list[int]] = defaultdict(list)
    order: dict[int, tuple[int, int]] = {}
    for rank, incidence in enumerate(incidences.values()):
        atoms, starts, _ = incidence.runs()
        for atom, start in zip(atoms.tolist(), starts.tolist(), strict=True):
            order.setdefault(atom, (rank, int(incidence.positions[start])))
    for atom in sorted(order, key=order.__getitem__):
        members[int(signature[atom])].append(atom)
    return list(members.values())


def _activations(coupling: Coupling) -> Iterator[Axis]:
    """Axes of values, one for each pattern of classes."""
    seen: set[bytes] = set()
    for value in coupling.values.values():
        for item in value if isinstance(value, list) else [value]:
            for axis in item.axes if isinstance(item, Value) else ():
                if len(axis) < 2 or not axis.any():
                    continue
                key = coupling.classes(axis).tobytes()
                if key not in seen:
                    seen.add(key)
                    yield axis


def _together(
    coupling: Coupling, incidences: Mapping[tuple[str, int], _Incidence], clusters: list[list[int]]
) -> tuple[list[list[int]], dict[int, list[Axis]]]:
    """Groups of one unit, put together where they differ only in how far apart their positions lie.

    Returns:
        the clusters of two atoms and more, and for each atom that is left alone the axes that it stands in.
    """
    lone = [cluster[0] for cluster in clusters if len(cluster) == 1]
    if not lone:
        return clusters, {}
    signature = np.zeros(coupling.facts.size, dtype=np.uint64)
    for salt, incidence in enumerate(incidences.values()):
        _sign(signature, incidence, salt, strides=False)
    for salt, axis in enumerate(_activations(coupling), start=len(incidences) + 1):
        _sign(signature, _Incidence.of(coupling, axis), salt, strides=False)
    alike: dict[int, list[int]] = defaultdict(list)
    for atom in lone:
        alike[int(signature[atom])].append(atom)
    grouped = {a[0]: a for a in alike.values() if len(a) > 1 and _apart(incidences, a)}
    joined = {atom for atoms in grouped.values() for atom in atoms}
    out = [grouped.get(c[0], c) for c in clusters if len(c) > 1 or c[0] in grouped]
    left: dict[int, list[Axis]] = {atom: [] for atom in lone if atom not in joined}
    for (name, i), incidence in incidences.items():
        for atom in np.intersect1d(incidence.atoms, list(left)).tolist():
            left[atom].append(coupling.state_axes[name][i])
    return out, left


def _apart(incidences: Mapping[tuple[str, int], _Incidence], atoms: list[int]) -> bool:
    """Whether no two of these atoms share a position: heads and the dimensions inside them do."""
    for incidence in incidences.values():
        positions = incidence.positions[np.isin(incidence.atoms, atoms)]
        if len(np.unique(positions)) < len(positions):
            return False
    return True


def _sign(signature: np.ndarray, incidence: _Incidence, salt: int, strides: bool = True) -> np.ndarray:
    """Mixes into each atom's signature how it stands in one axis: how often and at which stride."""
    atoms, starts, counts = incidence.runs()
    if not len(atoms):
        return atoms
    second = np.minimum(starts + 1, len(incidence.positions) - 1)
    stride = np.where(counts > 1, incidence.positions[second] - incidence.positions[starts], 0) * strides
    with np.errstate(over="ignore"):
        mixed = (np.uint64(salt + 1) * np.uint64(0x9E3779B97F4A7C15)) ^ (
            counts.astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F) + stride.astype(np.uint64)
        ) * np.uint64(0x165667B19E3779F9)
        mixed ^= mixed >> np.uint64(29)
        signature[atoms] += mixed * np.uint64(0xBF58476D1CE4E5B9)
    return atoms


def _consumed(coupling: Coupling) -> frozenset[tuple[str, int]]:
    """Parameter axes that a layer sums over."""
    summed = {id(axis) for axis in coupling.facts.consumed}
    named = coupling.state_axes.items()
    return frozenset((n, i) for n, axes in named for i, a in enumerate(axes) if id(a) in summed)


def _build(
    coupling: Coupling, incidences: Mapping[tuple[str, int], _Incidence], clusters: list[list[int]]
) -> list[Group]:
    place = np.full(coupling.facts.size, -1)
    owner = np.full(coupling.facts.size, -1)
    for index, cluster in enumerate(clusters):
        owner[cluster] = index
        place[cluster] = np.arange(len(cluster))
    found: list[list[Member]] = [[] for _ in clusters]
    consumed = _consumed(coupling)
    for (param, axis), incidence in incidences.items():
        atoms, starts, counts = incidence.runs()
        for index in np.unique(owner[atoms][owner[atoms] >= 0]).tolist():
            inside = owner[atoms] == index
            positions = np.empty((len(clusters[index]), int(counts[inside][0])), dtype=np.int64)
            for atom, start, count in zip(atoms[inside], starts[inside], counts[inside], strict=True):
                positions[place[atom]] = incidence.positions[start : start + count]
            found[index].append(Member(param, axis, positions, (param, axis) in consumed))
    names: dict[str, int] = defaultdict(int)
    groups = []
    for cluster, members in zip(clusters, found, strict=True):
        name = f"{members[0].param}:{members[0].axis}"
        names[name] += 1
        if names[name] > 1:
            name = f"{name}#{names[name]}"
        groups.append(Group(name, np.array(cluster, dtype=np.int64), tuple(members)))
    return groups


def _prunable_share(graph: Graph, coupling: Coupling) -> float:
    """Share of the parameters of which at least one axis position belongs to a unit."""
    sizes = {
        n: graph.tensor(n).numel() for n in coupling.state_axes if isinstance(graph.tensor(n), Parameter)
    }
    free = sum(size * (1.0 - _fixed_share(coupling, name)) for name, size in sizes.items())
    return free / sum(sizes.values()) if sizes else 0.0


def _fixed_share(coupling: Coupling, name: str) -> float:
    """Share of a parameter's entries that stand at a locked position along every axis."""
    axes = coupling.state_axes[name]
    return float(np.prod([(coupling.classes(a) == 0).mean() if len(a) else 1.0 for a in axes]))
