"""Couple: a :class:`~secateur.graph.Graph` becomes :class:`Groups` of units that can be removed."""

from secateur.coupling.blocks import Block, find_blocks
from secateur.coupling.bypass import Removal
from secateur.coupling.contexts import Across, Contexts, ContextTable, Inside, Placement
from secateur.coupling.couple import Coupling, couple
from secateur.coupling.facts import Axes, Axis, Facts, Mixing
from secateur.coupling.groups import Group, Groups, Member, find_groups
from secateur.coupling.joins import Join, joins
from secateur.coupling.locks import Cause, Lock, layer_path, source_of
from secateur.coupling.outputs import FreeOutputs
from secateur.coupling.removal import chosen_blocks, remove_blocks, renumbered
from secateur.coupling.rules import RULES, Rule
from secateur.coupling.values import Arguments, Value, bind

__all__ = [
    "RULES", "Across", "Arguments", "Axes", "Axis", "Block", "Cause", "ContextTable", "Contexts", "Coupling", "Facts",
    "FreeOutputs", "Group", "Groups", "Inside", "Join", "Lock", "Member", "Mixing", "Placement", "Removal", "Rule",
    "Value", "bind", "chosen_blocks", "couple", "find_blocks", "find_groups", "joins", "layer_path", "remove_blocks",
    "renumbered", "source_of",
]  # fmt: skip
