"""Ties: groups whose widths must change together, or not at all.

Coupling says which *units* go together. Ties say which *numbers* do: where one integer attribute of the user's class
stands for two axes, or its code divides one width by another, the groups keep the same share of their units.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Ties:
    """Constraints on how many units groups keep.

    Args:
        tied: sets of group names that keep one common share of their units.
        frozen: names of groups that are kept whole.
        multiple: widths are multiples of this where an axis is long enough, whatever rounding is asked for: for
            kernels that take no others.
    """

    tied: tuple[tuple[str, ...], ...] = ()
    frozen: frozenset[str] = frozenset()
    multiple: int = 1

    def among(self, names: Collection[str]) -> Ties:
        """What the ties say of some groups alone, such as those that a cut has left."""
        tied = tuple(left for t in self.tied if len(left := tuple(n for n in t if n in names)) > 1)
        return Ties(tied, self.frozen & frozenset(names), self.multiple)
