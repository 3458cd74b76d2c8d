"""Contexts: which groups may choose their units anew in every head, or in every group of a convolution.

The dimensions of a head stand in the parameters only together with the heads. Permuting them inside one head,
in everything that carries them, leaves the function as it is; so each head may lose dimensions of its own, and a
rectangle is cut all the same. A group is free *within* another one, its context, if every value that carries it
carries the context too, on the same axis or on one other, and no operator sums over the context while the group
lives on, or reads its units beside their neighbours. A table that all heads share, such as a norm's weight or a
rotary embedding, carries no heads, so that it disqualifies the group by itself. What is found here is checked by
running, where it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import fx

from secateur.coupling.classes import distinct
from secateur.coupling.facts import Axes, Axis
from secateur.coupling.values import Value
from secateur.graph import outputs

if TYPE_CHECKING:
    from secateur.coupling.groups import Groups
    from secateur.coupling.units import Group


@dataclass(frozen=True)
class Inside:
    """A group and its context on one axis, merged.

    Args:
        axis: the axis.
        positions: int64 ``[contexts, units, times]``.
    """

    axis: int
    positions: np.ndarray


@dataclass(frozen=True)
class Across:
    """A group on one axis and its context on another: each context's rows hold the units in their own order.

    Args:
        axis: the group's axis.
        positions: int64 ``[units, times]`` on it.
        over: the context's axis.
        rows: int64 ``[contexts, rows]`` on that.
    """

    axis: int
    positions: np.ndarray
    over: int
    rows: np.ndarray


Placement = Inside | Across


@dataclass(frozen=True)
class Contexts:
    """A group whose units may be chosen anew in each unit of another group.

    Args:
        group: the group that is free.
        within: its context, heads for example; one context for each unit.
        members: where both stand, for each parameter that carries the group.
    """

    group: Group
    within: Group
    members: Mapping[str, tuple[Placement, ...]]

    @property
    def shape(self) -> tuple[int, int]:
        """Contexts and units."""
        return self.within.units, self.group.units


class ContextTable(Mapping[str, Contexts]):
    """The free groups of a program by name, and where their units stand in any of its values."""

    def __init__(self, groups: Groups) -> None:
        self._index = _Index(groups)
        self._found = {c.group.name: c for c in _find(groups, self._index)}
        self._names = {self._index.number[name]: name for name in self._found}

    def __getitem__(self, name: str) -> Contexts:
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def placements(self, axes: Axes) -> dict[str, tuple[Placement, ...]]:
        """The free groups that stand in a value with these axes, by name, and where."""
        out = {}
        present = frozenset[int]().union(*(self._index.summary(a).present for a in axes))
        for name in (self._names[g] for g in sorted(present & self._names.keys())):
            found = self._found[name]
            out[name] = self._index.placements(found.group, found.within, axes) or ()
        return out


@dataclass(frozen=True)
class _Summary:
    """What one axis carries, by groups' numbers."""

    present: frozenset[int]
    single: frozenset[int]  # at most one of the group's atoms at a position
    full: frozenset[int]  # exactly one at every position
    company: Mapping[int, frozenset[int]]  # for each group, those with one atom wherever it stands


_NOTHING = _Summary(frozenset(), frozenset(), frozenset(), {})


class _Index:
    """Which group each atom belongs to, and what every axis carries."""

    def __init__(self, groups: Groups) -> None:
        self.coupling = groups.coupling
        self.number = {g.name: i for i, g in enumerate(groups)}
        self.owner = np.full(self.coupling.facts.size, -1, dtype=np.int32)
        self.place = np.zeros(self.coupling.facts.size, dtype=np.int32)
        for i, group in enumerate(groups):
            self.owner[group.atoms] = i
            self.place[group.atoms] = np.arange(group.units)
        # By the identity of an axis's classes, which are kept, and by all that else matters.
        self._known: dict[int, _Summary] = {}
        self._placed: dict[tuple[int, ...], tuple[Placement, ...] | None] = {}

    def summary(self, axis: Axis) -> _Summary:
        """What an axis carries."""
        key = id(self.coupling.classes(axis))
        if key not in self._known:
            self._known[key] = self._summarise(axis)
        return self._known[key]

    def _summarise(self, axis: Axis) -> _Summary:
        if not axis.any():
            return _NOTHING
        where, atoms = self.coupling.pairs(axis)
        owner = self.owner[atoms]
        present = distinct(owner[owner >= 0]).tolist()
        if not present:
            return _NOTHING
        if len(where) <= len(axis) and (where[1:] > where[:-1]).all():  # no products
            full = frozenset(present if len(present) == 1 and len(where) == len(axis) else ())
            return _Summary(frozenset(present), frozenset(present), full, {})
        counts = {g: np.bincount(where[owner == g], minlength=len(axis)) for g in present}
        company = {
            g: frozenset(f for f in present if f != g and bool((counts[f][counts[g] > 0] == 1).all()))
            for g in present
        }
        return _Summary(
            frozenset(present),
            frozenset(g for g in present if counts[g].max() <= 1),
            frozenset(g for g in present if bool((counts[g] == 1).all())),
            {g: f for g, f in company.items() if f},
        )

    def carriers(self, group: int, axes: Sequence[_Summary]) -> Iterator[tuple[int, frozenset[int]]]:
        """For each axis that carries a group: the axis, and what could be the group's context there."""
        for i, axis in enumerate(axes):
            if group not in axis.present:
                continue
            if group not in axis.single:
                yield i, frozenset()
                continue
            others = [a for k, a in enumerate(axes) if k != i]
            once = {f for a in others for f in a.full if sum(f in b.present for b in others) == 1}
            yield i, axis.company.get(group, frozenset()) | once

    def placements(self, group: Group, within: Group, axes: Axes) -> tuple[Placement, ...] | None:
        """Where a group stands in a value, by contexts; None if it does not stand there evenly."""
        g, f = self.number[group.name], self.number[within.name]
        key = (g, f, *(id(self.coupling.classes(a)) for a in axes))
        if key not in self._placed:
            self._placed[key] = self._place(g, f, group, within, axes)
        return self._placed[key]

    def _place(self, g: int, f: int, group: Group, within: Group, axes: Axes) -> tuple[Placement, ...] | None:
        summaries = [self.summary(a) for a in axes]
        found: list[Placement] = []
        for i, axis in enumerate(summaries):
            if g not in axis.present:
                continue
            where, atoms = self.coupling.pairs(axes[i])
            mine = self.owner[atoms] == g
            positions, units = where[mine], self.place[atoms[mine]]
            if f in axis.company.get(g, ()):
                context = self._contexts(axes[i], f)[positions]
                even = _evenly(positions, context * group.units + units, within.units * group.units)
                if even is None:
                    return None
                found.append(Inside(i, even.reshape(within.units, group.units, -1)))
                continue
            over = next((k for k, a in enumerate(summaries) if k != i and f in a.full), None)
            even = _evenly(positions, units, group.units)
            if over is None or even is None:
                return None
            context = self._contexts(axes[over], f)
            rows = _evenly(np.arange(len(context)), context, within.units)
            if rows is None:
                return None
            found.append(Across(i, even, over, rows))
        return tuple(found)

    def _contexts(self, axis: Axis, f: int) -> np.ndarray:
        """The unit of group ``f`` at each position; only where there is one."""
        where, atoms = self.coupling.pairs(axis)
        mine = self.owner[atoms] == f
        context = np.zeros(len(axis), dtype=np.int64)
        context[where[mine]] = self.place[atoms[mine]]
        return context


def _evenly(positions: np.ndarray, keys: np.ndarray, count: int) -> np.ndarray | None:
    """``[count, times]``: the positions of each key, ascending; None if some key has more than another."""
    if not len(positions) or len(positions) % count:
        return None
    table = np.lexsort((positions, keys)).reshape(count, -1)
    return positions[table] if (keys[table] == np.arange(count)[:, None]).all() else None


def _find(groups: Groups, index: _Index) -> list[Contexts]:
    """The free groups, each with the context that has the most units."""
    if not len(groups.coupling.solution.products[0]):
        return []
    values = _carrying(groups, index)
    allowed = _allowed(groups, index, values)
    found: dict[int, Contexts] = {}
    contexts: set[int] = set()
    blocks: dict[tuple[str, int], int] = {}  # along which axis the blocks of an axis lie
    for g, possible in sorted(allowed.items()):
        # A context keeps the order that it has: what is free within it counts on that.
        order = sorted(possible - found.keys(), key=lambda f: (-groups.groups[f].units, f))
        if g in contexts or not order or groups.groups[g].units < 2:
            continue
        group, within = groups.groups[g], groups.groups[order[0]]
        members = _members(groups, index, group, within)
        if members is None or any(index.placements(group, within, axes) is None for axes in values[g]):
            continue
        over = {(n, p.axis): p.over for n, ps in members.items() for p in ps if isinstance(p, Across)}
        if all(blocks.get(at, axis) == axis for at, axis in over.items()):
            blocks.update(over)
            found[g] = Contexts(group, within, members)
            contexts.add(order[0])
    return list(found.values())


def _carrying(groups: Groups, index: _Index) -> dict[int, list[Axes]]:
    """For each group that stands in some parameter together with another: the values that carry it, each once."""
    found: dict[int, list[Axes]] = {
        g: []
        for axes in groups.coupling.state_axes.values()
        for axis in axes
        for g in index.summary(axis).company
    }
    seen: set[tuple[int, ...]] = set()
    for value in groups.coupling.values.values():
        for item in value if isinstance(value, list) else [value]:
            if not isinstance(item, Value) or (key := tuple(map(id, item.axes))) in seen:
                continue
            seen.add(key)
            present = frozenset[int]().union(*(index.summary(a).present for a in item.axes))
            for g in present & found.keys():
                found[g].append(item.axes)
    return found


def _allowed(groups: Groups, index: _Index, values: Mapping[int, list[Axes]]) -> dict[int, frozenset[int]]:
    """Possible contexts of every group, by what each value carries and what each operator sums over."""
    coupling = groups.coupling
    allowed: dict[int, frozenset[int]] = {}
    for g, carrying in values.items():
        possible = [p for axes in carrying for _, p in index.carriers(g, [index.summary(a) for a in axes])]
        if possible and (left := frozenset.intersection(*possible)):
            allowed[g] = left
    for name in groups.ordered:
        allowed.pop(index.number[name], None)
    for output in outputs(groups.graph):  # whoever reads it knows of no permutation
        for axis in coupling.values[output.node].axes:
            for g in index.summary(axis).present:
                allowed.pop(g, None)
    left = frozenset[int]().union(*allowed.values())
    for node, mixings in coupling.mixings.items():
        apart = coupling.facts.notes.get(node, {}).get("groups")
        kept = index.summary(apart).present if apart is not None else frozenset()
        for mixing in mixings:
            summed = index.summary(mixing.labels).present - kept
            if not summed.isdisjoint(left):
                _forbid(allowed, index, node, mixing.labels, summed, coupling.values)
    return {g: f for g, f in allowed.items() if f}


def _forbid(
    allowed: dict[int, frozenset[int]],
    index: _Index,
    node: fx.Node,
    labels: Axis,
    summed: frozenset[int],
    values: Mapping[fx.Node, object],
) -> None:
    """Takes away contexts that an operator sums over while the group lives on."""
    classes = index.coupling.classes(labels)
    for operand in node.all_input_nodes:
        value = values.get(operand)
        for item in value if isinstance(value, list) else [value]:
            if not isinstance(item, Value):
                continue
            mixed = {
                i
                for i, a in enumerate(item.axes)
                if a is labels
                or (len(a) == len(labels) and bool((index.coupling.classes(a) == classes).all()))
            }
            if not mixed:
                continue
            for i, axis in enumerate(item.axes):
                summary = index.summary(axis)
                for g in summary.present & allowed.keys():
                    if i not in mixed:
                        allowed[g] -= summed - summary.company.get(g, frozenset())
                    elif g not in summed:
                        allowed[g] -= summed


def _members(
    groups: Groups, index: _Index, group: Group, within: Group
) -> dict[str, tuple[Placement, ...]] | None:
    """Where a group stands in parameters; None if what is kept there could not be told from its indices."""
    members: dict[str, tuple[Placement, ...]] = {}
    for name in dict.fromkeys(m.param for m in group.members):
        placements = index.placements(group, within, groups.coupling.state_axes[name])
        if placements is None or not all(_plain(p) for p in placements):
            return None
        members[name] = placements
    return members if any(isinstance(p, Inside) for found in members.values() for p in found) else None


def _plain(placement: Placement) -> bool:
    """Whether choosing units in each context keeps the order of the axis, or of the blocks of the other."""
    if isinstance(placement, Across):
        rows = placement.rows
        return bool((rows.reshape(-1) == np.arange(rows.size)).all())
    contexts, _, times = placement.positions.shape
    low, high = placement.positions.min(axis=1).reshape(-1), placement.positions.max(axis=1).reshape(-1)
    order = np.argsort(low, kind="stable")
    context = np.repeat(np.arange(contexts), times)[order]
    reached = np.maximum.accumulate(high[order])
    apart = np.r_[True, low[order][1:] > reached[:-1]]
    # Stretches that overlap must be of one context.
    return bool((context == context[np.maximum.accumulate(np.where(apart, np.arange(len(apart)), 0))]).all())
