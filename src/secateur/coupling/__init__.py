"""Couple: a :class:`~secateur.graph.Graph` becomes :class:`Groups` of units that can be removed."""

from secateur.coupling.blocks import Block, find_blocks
from secateur.coupling.branches import PASSES, form
from secateur.coupling.bypass import Removal
from secateur.coupling.contexts import Across, Contexts, ContextTable, Inside, Placement
from secateur.coupling.couple import Coupling, couple
from secateur.coupling.facts import Axes, Axis, Facts, Mixing
from secateur.coupling.groups import Groups, find_groups
from secateur.coupling.joins import Join, joins
from secateur.coupling.locks import Cause, Lock, layer_path, place_of, source_of
from secateur.coupling.operators import Operator
from secateur.coupling.outputs import FreeOutputs
from secateur.coupling.removal import chosen_blocks, remove_blocks, renumbered
from secateur.coupling.rules import RULES, Rule
from secateur.coupling.units import Group, Member
from secateur.coupling.values import LITERAL, Arguments, Value, bind, literal_indices

__all__ = [
    "LITERAL", "PASSES", "RULES", "Across", "Arguments", "Axes", "Axis", "Block", "Cause", "ContextTable", "Contexts",
    "Coupling", "Facts", "FreeOutputs", "Group", "Groups", "Inside", "Join", "Lock", "Member", "Mixing", "Operator",
    "Placement", "Removal", "Rule", "Value", "bind", "chosen_blocks", "couple", "find_blocks", "find_groups", "form",
    "joins", "layer_path", "literal_indices", "place_of", "remove_blocks", "renumbered", "source_of",
]  # fmt: skip
