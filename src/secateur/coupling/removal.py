"""Takes blocks out of a program's groups, by name.

The labels stay as they are: what goes does not count any more towards sizes, costs, scores or emptiness. Where a
block's input stands in for its output and the two were not of one width by themselves, as in a plain chain of
layers, their positions are tied and the facts solved again.
"""

from __future__ import annotations

import copy
import difflib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from torch import fx

from secateur.coupling.blocks import Block
from secateur.coupling.bypass import Removal, removal_of
from secateur.coupling.couple import Coupling
from secateur.coupling.facts import Axis
from secateur.coupling.groups import Groups, groups_of
from secateur.coupling.solve import solve
from secateur.coupling.units import Group
from secateur.coupling.values import Value
from secateur.errors import RequestError, UnknownName


def remove_blocks(groups: Groups, names: Iterable[str]) -> Groups:
    """The groups that are left when blocks are removed, besides any that were removed before.

    Args:
        groups: from :func:`secateur.find_groups`.
        names: names of blocks, or of modules that hold some.

    Raises:
        UnknownName: nothing that can be removed has such a name; the message has the closest.
        RequestError: the block cannot go; the message says why.
    """
    names = list(names)
    if not names:
        return groups  # finding the blocks takes as long as the cut
    wanted = dict.fromkeys([*groups.removal.names, *(b.name for b in chosen_blocks(groups.blocks, names))])
    if tuple(sorted(wanted)) == groups.removal.names:
        return groups
    removal = removal_of(groups.graph, [b for b in groups.blocks if b.name in wanted], groups.blocks)
    coupling = _tied(groups.coupling, removal)
    if coupling is not groups.coupling:
        groups = replace(groups_of(groups.graph, coupling), unknown=groups.unknown)
    return replace(
        groups,
        groups=tuple(_left(groups.groups, removal)),
        locked=tuple(lock for lock in groups.locked if lock.param not in removal.state),
        removal=removal,
    )


def chosen_blocks(blocks: Iterable[Block], names: Iterable[str]) -> list[Block]:
    """The blocks of these names; a module that is none stands for all branches and blocks in it.

    Raises:
        UnknownName: nothing has that name; the message has the closest.
        RequestError: it cannot be removed; the message says why.
    """
    blocks = list(blocks)
    found: dict[str, Block] = {}
    for name in names:
        fits = [b for b in blocks if b.name == name] or [b for b in blocks if b.name.startswith(name + ".")]
        free = [b for b in fits if not b.locked]
        if not fits:
            known = [b.name for b in blocks if not b.locked]
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            meant = (
                f"; did you mean {' or '.join(near)}?" if near
                else f"; there are {', '.join(known[:3])} and so on" if known
                else "; the model has no residual branch and no repeated block that can go"
            )  # fmt: skip
            raise UnknownName(f"no block is called {name!r}{meant}")
        if not free:
            raise RequestError(f"{name!r} cannot be removed: {fits[0].locked[0]} (at {fits[0].source})")
        found.update((b.name, b) for b in free)
    return list(found.values())


def renumbered(first: Sequence[str], second: Sequence[str]) -> tuple[str, ...]:
    """Names of two removals after each other, in terms of the model before the first.

    Uses of the same weights are counted, and what the first removes the second does not count: its ``name#2`` is then
    the third of the original.
    """
    out = list(first)
    for name in second:
        base, _, number = name.partition("#")
        gone = {int(n or 1) for b, _, n in (f.partition("#") for f in first) if b == base}
        left = (i for i in itertools.count(1) if i not in gone)
        place = next(itertools.islice(left, int(number or 1) - 1, None)) if gone else int(number or 1)
        found = base if place == 1 else f"{base}#{place}"
        # A block of which a branch was removed before goes by its own name; one that went is not counted twice.
        out += [found] if found not in out else []
    return tuple(out)


def _left(groups: Iterable[Group], removal: Removal) -> Iterable[Group]:
    for group in groups:
        members = tuple(m for m in group.members if m.param not in removal.state)
        if members:
            yield group if len(members) == len(group.members) else replace(group, members=members)


def _tied(coupling: Coupling, removal: Removal) -> Coupling:
    """The coupling with the positions of each bypassed output tied to those of what stands in for it."""
    pairs = [
        pair
        for output, given in removal.bypassed.items()
        for pair in _axes_of(coupling, output, given)
        if not np.array_equal(coupling.classes(pair[0]), coupling.classes(pair[1]))
    ]
    if not pairs:
        return coupling
    old = coupling.facts
    facts = copy.copy(old)  # solving adds to it
    for name, value in vars(old).items():
        if isinstance(value, (list, dict, set)):
            setattr(facts, name, value.copy())
    for one, two in pairs:
        facts.same(one, two)
    return replace(coupling, facts=facts, solution=solve(facts))


def _axes_of(coupling: Coupling, one: fx.Node, two: fx.Node) -> list[tuple[Axis, Axis]]:
    first, second = coupling.values.get(one), coupling.values.get(two)
    if not isinstance(first, Value) or not isinstance(second, Value):
        return []
    return list(zip(first.axes, second.axes, strict=True))
