"""What a plan keeps of groups that choose anew in each context: from units to indices and back.

A group that is free within another (:mod:`secateur.coupling.contexts`) may keep other units in each head, as
many in each. Inside the machinery its units are *aligned*: an order for each context says which of the group's
units stands n-th there, and what is removed is the same for all. A plan speaks of original indices instead, so
both directions are here, in one normal form: what is kept comes first, ascending, and where all contexts keep
the same units there is no order at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from secateur.coupling import Across, Contexts, Groups, Inside, Placement
from secateur.errors import PlanError

Orders = Mapping[str, np.ndarray]
"""For free groups by name, int64 ``[contexts, units]``: the units of each context, in their new order."""


@dataclass(frozen=True)
class Choice:
    """What is removed.

    Args:
        dead: int64, the atoms that go; those of a group with an order are counted in that order.
        orders: of the groups whose contexts keep different units.
    """

    dead: np.ndarray
    orders: Orders = field(default_factory=dict)


@dataclass(frozen=True)
class Blocks:
    """What stays along one axis of a parameter, where that differs between the blocks of another of its axes.

    Args:
        over: the other axis. What stays of it stands in blocks of ``rows`` positions.
        rows: positions of a block along ``over``, after the cut.
        indices: for each block that stays, the original indices that stay there, in their order.
    """

    over: int
    rows: int
    indices: tuple[tuple[int, ...], ...]


def normal(groups: Groups, dead: np.ndarray, orders: Orders) -> Choice:
    """The same choice in the one form that plans are compared in."""
    gone = np.zeros(groups.coupling.facts.size, dtype=bool)
    gone[dead] = True
    found = {}
    for name, order in orders.items():
        contexts = groups.contexts[name]
        stays = ~gone[contexts.group.atoms]
        kept = np.zeros(contexts.shape, dtype=bool)
        np.put_along_axis(kept, order[:, stays], True, axis=1)
        chosen = _choose(contexts, kept, ~gone[contexts.within.atoms])
        gone[contexts.group.atoms] = chosen.gone
        if chosen.order is not None:
            found[name] = chosen.order
    return Choice(np.nonzero(gone)[0], found)


@dataclass(frozen=True)
class _Chosen:
    gone: np.ndarray  # bool [units], aligned
    order: np.ndarray | None


def _choose(contexts: Contexts, kept: np.ndarray, lives: np.ndarray) -> _Chosen:
    """From what each context keeps, bool ``[contexts, units]``; contexts that do not live do not count.

    Raises:
        PlanError: one keeps more than another.
    """
    living = kept[lives] if lives.any() else kept
    if (living == living[0]).all():
        return _Chosen(~living[0], None)
    counts = living.sum(axis=1)
    if (counts != counts[0]).any():
        raise PlanError(
            f"the plan keeps {counts.min()} to {counts.max()} units of '{contexts.group.name}' in the units of "
            f"'{contexts.within.name}'; each of them must keep as many as the others"
        )
    stays = np.arange(kept.shape[1]) < counts[0]
    whole = np.where(lives[:, None], kept, stays)
    return _Chosen(~stays, np.argsort(~whole, axis=1, kind="stable"))


def read_choice(groups: Groups, masks: Mapping[tuple[str, int], np.ndarray]) -> Choice:
    """The choice that keeps these positions: bool ``[n]`` for each parameter axis that a plan names.

    Axes that a plan keeps in blocks have no mask: they follow from the others.
    """
    gone = np.zeros(groups.coupling.facts.size, dtype=bool)
    for group in groups:
        touched = [(m, masks[m.param, m.axis]) for m in group.members if (m.param, m.axis) in masks]
        if touched:
            lives = np.any([mask[m.positions].any(axis=1) for m, mask in touched], axis=0)
            gone[group.atoms[~lives]] = True
    orders = {}
    for name, contexts in groups.contexts.items():
        kept = np.zeros(contexts.shape, dtype=bool)
        touched_at = [
            (placement, masks[param, placement.axis])
            for param, placements in contexts.members.items()
            for placement in placements
            if (param, placement.axis) in masks
        ]
        for placement, mask in touched_at:
            found = mask[placement.positions].any(axis=-1)
            kept |= found if isinstance(placement, Inside) else found[None]
        if touched_at:
            chosen = _choose(contexts, kept, ~gone[contexts.within.atoms])
            gone[contexts.group.atoms] = chosen.gone
            if chosen.order is not None:
                orders[name] = chosen.order
    return Choice(np.nonzero(gone)[0], orders)


def source(placement: Placement, order: np.ndarray, length: int) -> np.ndarray:
    """Which original index comes to stand at each position of an axis, for an order of its units.

    Returns:
        int64 ``[length]`` where the context is on the axis itself, else ``[contexts, length]``.
    """
    if isinstance(placement, Inside):
        found = np.arange(length)
        found[placement.positions] = np.take_along_axis(placement.positions, order[:, :, None], axis=1)
        return found
    found = np.tile(np.arange(length), (len(order), 1))
    found[:, placement.positions] = placement.positions[order]
    return found


def original_indices(
    groups: Groups, choice: Choice
) -> tuple[dict[str, dict[int, list[int]]], dict[str, dict[int, Blocks]]]:
    """What stays along every axis that changes, in original indices.

    Returns:
        ``{parameter: {axis: sorted indices}}``, and what differs between blocks. The indices of an axis that
        stays in blocks are the first ones, as many as stay: those after a permutation in each block.
    """
    alive = groups.coupling.alive(choice.dead)
    kept: dict[str, dict[int, list[int]]] = {}
    blocks: dict[str, dict[int, Blocks]] = {}
    for name, axes in groups.coupling.state_axes.items():
        masks = [groups.coupling.keep(axis, alive) for axis in axes]
        placed = [
            (placement, order)
            for group, order in choice.orders.items()
            for placement in groups.contexts[group].members.get(name, ())
        ]
        for i, mask in enumerate(masks):
            if mask.all():
                continue
            stays = np.nonzero(mask)[0]
            inside = np.arange(len(mask))
            for placement, order in placed:
                if placement.axis == i and isinstance(placement, Inside):
                    inside = inside[source(placement, order, len(mask))]
            across = [(p, o) for p, o in placed if p.axis == i and isinstance(p, Across)]
            if not across:
                kept.setdefault(name, {})[i] = sorted(inside[stays].tolist())
                continue
            found = _blocks(across, stays, inside, masks)
            kept.setdefault(name, {})[i] = list(range(len(stays)))
            blocks.setdefault(name, {})[i] = found
    return kept, blocks


def _blocks(
    across: list[tuple[Across, np.ndarray]], stays: np.ndarray, inside: np.ndarray, masks: list[np.ndarray]
) -> Blocks:
    rows = across[0][0].rows
    over = across[0][0].over
    table = np.tile(inside, (len(rows), 1))
    for placement, order in across:
        table = np.take_along_axis(table, source(placement, order, len(inside)), axis=1)
    lives = masks[over][rows]
    left = lives.any(axis=1)
    return Blocks(
        over, int(lives.sum(axis=1).max()), tuple(tuple(line) for line in table[left][:, stays].tolist())
    )
