"""Cells: one unit in one context, such as one dimension of one head, scored like any other unit.

Where a group is free within another (see :mod:`secateur.coupling.contexts`), each context may keep units of its
own. The cells of such a group are handed to the criterion as a group of their own, whose members are the parts
of the parameters that belong to one cell; a criterion that sums over positions needs to know nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from secateur.coupling import Across, Contexts, Group, Groups, Inside, Member

Axis = int | tuple[int, int]
"""An axis, or two of them that are counted as one, row-major."""


@dataclass(frozen=True)
class Block(Member):
    """A part of a parameter that no slice along one axis is: some positions of one axis, in some rows of another.

    ``positions`` count along ``over`` and ``axis`` as if they were one, row-major.

    Args:
        over: the other axis.
    """

    over: int = 0


def where(member: Member) -> tuple[str, Axis]:
    """The parameter and the axis, or the two axes, that a member's positions refer to."""
    return member.param, (member.over, member.axis) if isinstance(member, Block) else member.axis


def with_cells(groups: Groups, blocks: bool) -> tuple[Groups, Mapping[str, str]]:
    """The groups, and after them the cells of those that are free, as groups.

    Args:
        blocks: whether the criterion can read members that are a :class:`Block`; groups that have one stay out
            otherwise.

    Returns:
        The groups to score, and ``{name of the free group: name of its cells}``.
    """
    cells: dict[str, Group] = {}
    for name, contexts in groups.contexts.items():
        spread = any(isinstance(p, Across) for found in contexts.members.values() for p in found)
        if blocks or not spread:
            cells[name] = _cells(groups, contexts)
    names = {name: group.name for name, group in cells.items()}
    return replace(groups, groups=(*groups.groups, *cells.values())), names


def _cells(groups: Groups, contexts: Contexts) -> Group:
    consumes = {(m.param, m.axis): m.consumes for m in contexts.group.members}
    members: list[Member] = []
    count = int(np.prod(contexts.shape))
    for param, placements in contexts.members.items():
        length = [len(axis) for axis in groups.coupling.state_axes[param]]
        for placement in placements:
            read = consumes.get((param, placement.axis), False)
            if isinstance(placement, Inside):
                positions = placement.positions.reshape(count, -1)
                members.append(Member(param, placement.axis, positions, read))
            else:
                rows, columns = placement.rows[:, None, :, None], placement.positions[None, :, None, :]
                positions = (rows * length[placement.axis] + columns).reshape(count, -1)
                members.append(Block(param, placement.axis, positions, read, placement.over))
    return Group(
        f"{contexts.group.name} within {contexts.within.name}",
        np.tile(contexts.group.atoms, contexts.within.units),
        tuple(members),
    )
