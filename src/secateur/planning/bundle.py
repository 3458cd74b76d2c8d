"""Bundles: what an allocator gives a width to. A group alone, or tied groups that keep one common share.

A bundle has *levels*: the largest number of equal steps in which all of its groups can shrink together. Within a
group the most salient units stay longest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import gcd, lcm

import numpy as np

from secateur.coupling import Group
from secateur.planning.rounding import Rounding, nearest
from secateur.planning.ties import Ties


@dataclass(frozen=True)
class Bundle:
    """Groups that keep one share.

    Args:
        groups: one or several.
        frozen: whether they are kept whole.
    """

    groups: tuple[Group, ...]
    frozen: bool = False

    @property
    def levels(self) -> int:
        """In how many equal steps the bundle can shrink to nothing."""
        return gcd(*(g.units for g in self.groups))

    def step(self, rounding: Rounding) -> int:
        """By how many levels the width changes so that every group stays on its friendly multiple."""
        steps = [_over(rounding.step(g), g.units // self.levels) for g in self.groups]
        step = lcm(*steps)
        while step > 1 and self.levels < 2 * step:
            step //= 2
        return max(step, 1)

    def nearest(self, rounding: Rounding, wanted: float) -> int:
        """The number of levels to keep nearest to ``wanted``: at least one step, ties upwards."""
        return nearest(self.step(rounding), self.levels, wanted)

    def sorted_units(self, values: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Levels by falling saliency, float64 ``[levels]``, and the atoms that go with each, ``[levels, atoms]``."""
        saliency, atoms = np.zeros(self.levels), []
        for group in self.groups:
            order = np.argsort(-values[group.name], kind="stable").reshape(self.levels, -1)
            saliency += values[group.name][order].sum(axis=1)
            atoms.append(group.atoms[order])
        return saliency, np.concatenate(atoms, axis=1)


def bundles(groups: Sequence[Group], ties: Ties | None) -> tuple[Bundle, ...]:
    """Every group in one bundle, in the order of their first groups."""
    ties = ties or Ties()
    home = {name: names for names in ties.tied for name in names}
    by_name = {g.name: g for g in groups}
    done: set[str] = set()
    found = []
    for group in groups:
        if group.name in done:
            continue
        names = home.get(group.name, (group.name,))
        done.update(names)
        inside = tuple(by_name[n] for n in names if n in by_name)
        found.append(Bundle(inside, any(n in ties.frozen for n in names)))
    return tuple(found)


def _over(step: int, units: int) -> int:
    """How many levels of ``units`` units make a multiple of ``step``."""
    return step // gcd(step, units)
