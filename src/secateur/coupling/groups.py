"""Groups: interchangeable units, with all the parameter positions that die with each, and what is locked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING

from torch.nn import Parameter

from secateur.coupling.alike import taken_apart
from secateur.coupling.bypass import Removal
from secateur.coupling.contexts import ContextTable
from secateur.coupling.couple import Coupling, couple
from secateur.coupling.locks import Lock, find_locks
from secateur.coupling.lone import pin_units
from secateur.coupling.operators import Operator
from secateur.coupling.outputs import FreeOutputs
from secateur.coupling.rules import Rule
from secateur.coupling.units import Group, consumed, find_units
from secateur.errors import UnknownName
from secateur.graph import Graph

if TYPE_CHECKING:
    from secateur.coupling.blocks import Block


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

    @cached_property
    def consumed(self) -> frozenset[tuple[str, int]]:
        """``(parameter, axis)`` of the axes that a layer sums over: what reads units, as opposed to what makes them."""
        return consumed(self.coupling)

    @cached_property
    def ordered(self) -> frozenset[str]:
        """Names of the groups whose units are not alike: an operator reads each beside its neighbours, the program
        makes numbers of its own along them, such as positions, or takes of each unit another part.

        A unit of these can be removed like any other, but two of them must not change places.
        """
        facts = self.coupling.facts
        axes = [m.labels for m in facts.mixings if m.ordered]
        axes += [
            a for notes in facts.notes.values() for name, a in notes.items() if name.startswith("selected")
        ]
        atoms = {atom for axis in axes for atom in self.coupling.pairs(axis)[1].tolist()}
        beside = {g.name for g in self.groups if not atoms.isdisjoint(g.atoms.tolist())}
        return frozenset(beside.union(taken_apart(self.coupling, self.groups)))

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
    return groups_of(graph, couple(graph, rules, free_outputs))


def groups_of(graph: Graph, coupling: Coupling) -> Groups:
    """The groups that a program's labels amount to."""
    groups, lone = find_units(coupling)
    if lone:
        coupling = pin_units(coupling, lone)
    locked = tuple(find_locks(coupling))
    unknown: dict[str, int] = defaultdict(int)
    for node in coupling.facts.unknown:
        unknown[str(node.target)] += 1
    return Groups(graph, coupling, groups, locked, _prunable_share(graph, coupling), dict(unknown))


def _prunable_share(graph: Graph, coupling: Coupling) -> float:
    """Share of the parameters of which at least one axis position belongs to a unit."""
    sizes = {n: t.numel() for n, t in graph.state.items() if isinstance(t, Parameter)}
    free = sum(size * (1.0 - _fixed_share(coupling, name)) for name, size in sizes.items())
    return free / sum(sizes.values()) if sizes else 0.0


def _fixed_share(coupling: Coupling, name: str) -> float:
    """Share of a parameter's entries that stand at a locked position along every axis."""
    return prod(coupling.locked_share(axis) for axis in coupling.state_axes[name])
