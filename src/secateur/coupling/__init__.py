"""Couple: a :class:`~secateur.graph.Graph` becomes :class:`Groups` of units that can be removed."""

from secateur.coupling.couple import Coupling, couple
from secateur.coupling.facts import Axes, Axis, Facts, Mixing
from secateur.coupling.groups import Groups, Lock, find_groups, source_of
from secateur.coupling.rules import RULES, Rule
from secateur.coupling.units import Group, Member
from secateur.coupling.values import Arguments, Value, bind

__all__ = [
    "RULES", "Arguments", "Axes", "Axis", "Coupling", "Facts", "Group", "Groups", "Lock", "Member", "Mixing",
    "Rule", "Value", "bind", "couple", "find_groups", "source_of",
]  # fmt: skip
