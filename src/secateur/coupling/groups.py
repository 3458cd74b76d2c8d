"""Groups: interchangeable units, with all the parameter positions that die with each.

A unit is an atom that at least one parameter axis refers to. Units belong to one group when they touch the
same axes in the same way (as often, and at the same stride), so heads, head dimensions, groups of a
convolution and channels inside them come apart although they share parameters.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import fx

from secateur.coupling.bypass import Removal
from secateur.coupling.couple import Coupling, couple
from secateur.coupling.facts import Axis
from secateur.coupling.rules import Rule
from secateur.coupling.values import Value
from secateur.errors import UnknownName
from secateur.graph import Graph

if TYPE_CHECKING:
    from secateur.coupling.blocks import Block


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
class Lock:
    """Positions of a parameter axis that cannot be cut, and why.

    Args:
        param: name of the parameter or buffer.
        axis: which of its axes.
        size: length of the axis.
        positions: how many of its positions are locked.
        operator: the operator whose rule locked it.
        reason: in words.
        source: file and line of the user's code, where the exporter knows it.
        remedy: what would free it.
    """

    param: str
    axis: int
    size: int
    positions: int
    operator: str
    reason: str
    source: str
    remedy: str


@dataclass(frozen=True)
class Groups:
    """All groups of a program, what is locked, and the coupling they come from.

    ``removal`` holds the blocks that are taken out beforehand, if any: see :func:`remove_blocks`.
    """

    graph: Graph
    coupling: Coupling
    groups: tuple[Group, ...]
    locked: tuple[Lock, ...]
    prunable_share: float
    unknown: Mapping[str, int]
    removal: Removal = field(default_factory=Removal)

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """What can be removed whole: residual branches and repeated blocks, see :func:`find_blocks`."""
        from secateur.coupling.blocks import find_blocks  # it builds on this file

        return find_blocks(self.graph)

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self.groups)

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, name: str) -> Group:
        for group in self.groups:
            if group.name == name:
                return group
        first = f", the first '{self.groups[0].name}'" if self.groups else ""
        raise UnknownName(f"no group is called '{name}'; there are {len(self)}{first}")


def find_groups(graph: Graph, rules: Mapping[str, Rule] | None = None) -> Groups:
    """Finds what can be removed from a traced model, and why the rest cannot.

    Args:
        graph: from :func:`secateur.trace`.
        rules: rules for operators of the user's own, by name.
    """
    return groups_of(graph, couple(graph, rules))


def groups_of(graph: Graph, coupling: Coupling) -> Groups:
    """The groups that a program's labels amount to."""
    incidences = {
        (name, i): _Incidence.of(coupling, axis)
        for name, axes in coupling.state_axes.items()
        for i, axis in enumerate(axes)
        if len(axis) > 1
    }
    groups = _collect(coupling, incidences)
    locked = tuple(_locks(graph, coupling))
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


def _collect(coupling: Coupling, incidences: Mapping[tuple[str, int], _Incidence]) -> tuple[Group, ...]:
    size = coupling.facts.size
    signature = np.zeros(size, dtype=np.uint64)
    in_parameters = np.zeros(size, dtype=bool)
    for salt, incidence in enumerate(incidences.values()):
        atoms = _sign(signature, incidence, salt)
        in_parameters[atoms] = True
    # Units that differ in which part of an activation they stand in must not be exchanged either: removing
    # all of one part would leave an axis empty.
    seen: set[bytes] = set()
    for value in coupling.values.values():
        for item in value if isinstance(value, list) else [value]:
            for axis in item.axes if isinstance(item, Value) else ():
                if len(axis) < 2 or not axis.any():
                    continue
                key = coupling.classes(axis).tobytes()
                if key not in seen:
                    seen.add(key)
                    _sign(signature, _Incidence.of(coupling, axis), len(incidences) + len(seen))
    members: dict[int, list[int]] = defaultdict(list)
    order: dict[int, tuple[int, int]] = {}
    for rank, incidence in enumerate(incidences.values()):
        atoms, starts, _ = incidence.runs()
        for atom, start in zip(atoms.tolist(), starts.tolist(), strict=True):
            order.setdefault(atom, (rank, int(incidence.positions[start])))
    for atom in sorted(order, key=order.__getitem__):
        members[int(signature[atom])].append(atom)
    return tuple(_build(coupling, incidences, list(members.values())))


def _sign(signature: np.ndarray, incidence: _Incidence, salt: int) -> np.ndarray:
    """Mixes into each atom's signature how it stands in one axis: how often and at which stride."""
    atoms, starts, counts = incidence.runs()
    if not len(atoms):
        return atoms
    second = np.minimum(starts + 1, len(incidence.positions) - 1)
    stride = np.where(counts > 1, incidence.positions[second] - incidence.positions[starts], 0)
    with np.errstate(over="ignore"):
        mixed = (np.uint64(salt + 1) * np.uint64(0x9E3779B97F4A7C15)) ^ (
            counts.astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F) + stride.astype(np.uint64)
        ) * np.uint64(0x165667B19E3779F9)
        mixed ^= mixed >> np.uint64(29)
        signature[atoms] += mixed * np.uint64(0xBF58476D1CE4E5B9)
    return atoms


def _build(
    coupling: Coupling, incidences: Mapping[tuple[str, int], _Incidence], clusters: list[list[int]]
) -> list[Group]:
    place = np.full(coupling.facts.size, -1)
    owner = np.full(coupling.facts.size, -1)
    for index, cluster in enumerate(clusters):
        owner[cluster] = index
        place[cluster] = np.arange(len(cluster))
    found: list[list[Member]] = [[] for _ in clusters]
    summed = {id(axis) for axis in coupling.facts.consumed}
    consumed = {
        (n, i) for n, axes in coupling.state_axes.items() for i, a in enumerate(axes) if id(a) in summed
    }
    for (param, axis), incidence in incidences.items():
        atoms, starts, counts = incidence.runs()
        for index in np.unique(owner[atoms]).tolist():
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


_REMEDIES = (
    (
        "output of the model",
        "it is what the model returns; wrap the model so that the output is a smaller part",
    ),
    ("no rule", "teach Secateur the operator: find_groups(graph, rules={...})"),
    (
        "axis of fixed size",
        "what it meets is fixed by the inputs; a fixed adapter in front would let it shrink",
    ),
    (
        "its positions are looked up by index",
        "positions with a fixed meaning, such as a vocabulary, cannot go",
    ),
    ("kernel", "kernels keep their size"),
    ("spatial", "sizes in space follow from the input's"),
)


def _locks(graph: Graph, coupling: Coupling) -> list[Lock]:
    locks = []
    for name, axes in coupling.state_axes.items():
        for i, axis in enumerate(axes):
            pinned = coupling.classes(axis) == 0
            if len(axis) < 2 or not pinned.any():
                continue
            reasons = coupling.solution.reasons[axis[pinned]]
            known = reasons[reasons >= 0]
            pin = coupling.facts.pins[int(known[0])] if len(known) else None
            reason = pin.reason if pin else "every position of it is tied to one that cannot be cut"
            node = pin.node if pin else None
            if "axis of the kernel" in reason:
                continue
            operator = (
                "output" if node is not None and node.op == "output" else str(node.target) if node else "-"
            )
            remedy = next((words for key, words in _REMEDIES if key in reason), "see the line of code named")
            locks.append(
                Lock(name, i, len(axis), int(pinned.sum()), operator, reason, source_of(node), remedy)
            )
    return locks


def source_of(node: fx.Node | None) -> str:
    """The innermost line of the user's code that made a node, ``file:line 'code'``, or ``-``."""
    if node is None:
        return "-"
    home = str(Path(torch.__file__).parent)
    found = re.findall(
        r'File "([^"]+)", line (\d+), in \S+\n\s*(.+)', str(node.meta.get("stack_trace") or "")
    )
    found = [frame for frame in found if not frame[0].startswith(home)] or found
    if not found:
        return "-"
    file, line, code = found[-1]
    return f"{file}:{line} '{code.strip()}'"


def _prunable_share(graph: Graph, coupling: Coupling) -> float:
    """Share of the parameters of which at least one axis position belongs to a unit."""
    free = total = 0.0
    from torch.nn import Parameter

    for name, axes in coupling.state_axes.items():
        tensor = graph.tensor(name)
        if isinstance(tensor, Parameter):
            total += tensor.numel()
            fixed = float(np.prod([(coupling.classes(a) == 0).mean() if len(a) else 1.0 for a in axes]))
            free += tensor.numel() * (1.0 - fixed)
    return free / total if total else 0.0
