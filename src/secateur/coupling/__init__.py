"""Couple: a :class:`~secateur.graph.Graph` becomes :class:`Groups` of units that can be removed."""

from secateur.coupling.blocks import Block, find_blocks
from secateur.coupling.bypass import Removal
from secateur.coupling.couple import Coupling, couple
from secateur.coupling.facts import Axes, Axis, Facts, Mixing
from secateur.coupling.groups import Group, Groups, Lock, Member, find_groups, source_of
from secateur.coupling.removal import chosen_blocks, remove_blocks, renumbered
from secateur.coupling.rules import RULES, Rule
from secateur.coupling.values import Arguments, Value, bind

__all__ = [
    "RULES", "Arguments", "Axes", "Axis", "Block", "Coupling", "Facts", "Group", "Groups", "Lock", "Member", "Mixing",
    "Removal", "Rule", "Value", "bind", "chosen_blocks", "couple", "find_blocks", "find_groups", "remove_blocks",
    "renumbered", "source_of",
]  # fmt: skip
