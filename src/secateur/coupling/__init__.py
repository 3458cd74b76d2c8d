"""Couple: a :class:`~secateur.graph.Graph` becomes :class:`Groups` of units that can be removed."""

from secateur.coupling.contexts import Across, Contexts, ContextTable, Inside, Placement
from secateur.coupling.couple import Coupling, couple
from secateur.coupling.facts import Axes, Axis, Facts, Mixing
from secateur.coupling.groups import Group, Groups, Lock, Member, find_groups, source_of
from secateur.coupling.rules import RULES, Rule
from secateur.coupling.values import Arguments, Value, bind

__all__ = [
    "RULES", "Across", "Arguments", "Axes", "Axis", "ContextTable", "Contexts", "Coupling", "Facts", "Group",
    "Groups", "Inside", "Lock", "Member", "Mixing", "Placement", "Rule", "Value", "bind", "couple", "find_groups",
    "source_of",
]  # fmt: skip
