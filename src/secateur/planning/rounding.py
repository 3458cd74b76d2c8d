"""Widths that runtimes like: multiples of eight along the axis, smaller ones where an axis is short."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from secateur.coupling import Group


@dataclass(frozen=True)
class Rounding:
    """Rounds the number of units kept.

    Args:
        multiple: the multiple wanted along the axis. A unit that takes several positions counts with all of
            them, so any number of heads of size 64 is a multiple of 8. A group with less than two such
            steps uses a half, a quarter, ... of it.
    """

    multiple: int = 8

    def step(self, group: Group) -> int:
        """By how many units the group's width changes."""
        taken = max((m.multiplicity for m in group.members), default=1)
        step = self.multiple // gcd(self.multiple, taken)
        while step > 1 and group.units < 2 * step:
            step //= 2
        return max(step, 1)

    def nearest(self, group: Group, wanted: float) -> int:
        """The number of units to keep nearest to ``wanted``: at least one step, ties upwards."""
        return nearest(self.step(group), group.units, wanted)


def nearest(step: int, units: int, wanted: float) -> int:
    """The multiple of ``step`` nearest to ``wanted``, between one step and all units, ties upwards."""
    if wanted >= units:
        return units
    return min(units, max(step, int(wanted / step + 0.5) * step))
