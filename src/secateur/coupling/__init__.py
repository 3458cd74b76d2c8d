"""Couple: a :class:`~secateur.graph.Graph` becomes :class:`Groups` of units that can be removed."""

from secateur.coupling.contexts import Across, Contexts, ContextTable, Inside, Placement
from secateur.coupling.couple import Coupling, couple
from secateur.coupling.facts import Axes, Axis, Facts, Mixing
from secateur.coupling.groups import Group, Groups, Member, find_groups
from secateur.coupling.joins import Join, joins
from secateur.coupling.locks import Cause, Lock, layer_path, source_of
from secateur.coupling.operators import Operator
from secateur.coupling.outputs import FreeOutputs
from secateur.coupling.rules import RULES, Rule
from secateur.coupling.values import LITERAL, Arguments, Value, bind, literal_indices

__all__ = [
    "LITERAL", "RULES", "Across", "Arguments", "Axes", "Axis", "Cause", "ContextTable", "Contexts", "Coupling", "Facts",
    "FreeOutputs", "Group", "Groups", "Inside", "Join", "Lock", "Member", "Mixing", "Operator", "Placement", "Rule",
    "Value", "bind", "couple", "find_groups", "joins", "layer_path", "literal_indices", "source_of",
]  # fmt: skip
