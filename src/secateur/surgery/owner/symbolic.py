"""Sizes as polynomials in the shares that groups keep, before any plan is made.

The length of an axis is a sum over its parts; a part whose positions combine units of several groups (heads and
head dimensions) shrinks with the product of their shares.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np

from secateur.coupling import Axis, Groups
from secateur.surgery.sizes import Sizes


@dataclass(frozen=True)
class Poly:
    """``sum of count * product of shares``: a length as a function of what groups keep.

    Args:
        terms: for a sorted tuple of group indices, the count at full size.
    """

    terms: tuple[tuple[tuple[int, ...], int], ...]

    @classmethod
    def of(cls, terms: Mapping[tuple[int, ...], int]) -> Poly | int:
        """The polynomial, or a plain number if no group stands in it."""
        kept = {k: v for k, v in terms.items() if v}
        if all(k == () for k in kept):
            return sum(kept.values())
        return cls(tuple(sorted(kept.items())))

    def at(self, shares: Sequence[Fraction]) -> Fraction:
        """Its value when each group keeps its share."""
        return sum(
            (c * prod((shares[g] for g in key), start=Fraction(1)) for key, c in self.terms), Fraction(0)
        )

    @property
    def groups(self) -> set[int]:
        """Indices of the groups in it."""
        return {g for key, _ in self.terms for g in key}

    def __add__(self, other: Poly | int) -> Any:
        terms = Counter(dict(self.terms))
        for key, count in other.terms if isinstance(other, Poly) else (((), other),):
            terms[key] += count
        return Poly.of(terms)

    __radd__ = __add__

    def __neg__(self) -> Poly:
        return Poly(tuple((k, -c) for k, c in self.terms))

    def __sub__(self, other: Poly | int) -> Any:
        return self + (-other)

    def __rsub__(self, other: int) -> Any:
        return -self + other


class SymbolicSizes(Sizes):
    """:class:`Sizes` in which every length is a :class:`Poly`; only what rewrites ask for."""

    def __init__(self, groups: Groups) -> None:
        super().__init__(groups.coupling, np.ones(groups.coupling.facts.size, dtype=bool))
        self.group_of = np.full(groups.coupling.facts.size, -1)
        for index, group in enumerate(groups):
            self.group_of[group.atoms] = index
        self._of: dict[int, tuple[Axis, Any]] = {}
        self._key: dict[int, tuple[int, ...]] = {}

    def of(self, axis: Axis) -> Any:
        """The axis's length as a polynomial, or a number if it cannot change."""
        if id(axis) not in self._of:
            self._of[id(axis)] = (axis, self._count(axis))
        return self._of[id(axis)][1]

    def whole(self, axis: Axis) -> bool:
        """Whether the axis cannot change."""
        return isinstance(self.of(axis), int)

    def before(self, axis: Axis, position: int) -> Any:
        """The length of what lies before a position."""
        return self._count(axis[:position])

    def shape(self, axes: Sequence[Axis]) -> Any:
        """Lengths of several axes."""
        return tuple(self.of(axis) for axis in axes)

    def _count(self, axis: Axis) -> Any:
        terms: Counter[tuple[int, ...]] = Counter()
        for label, count in zip(*np.unique(self.coupling.classes(axis), return_counts=True), strict=True):
            terms[self._groups_of(int(label))] += int(count)
        return Poly.of(terms)

    def _groups_of(self, label: int) -> tuple[int, ...]:
        if label not in self._key:
            owners = [int(self.group_of[a]) for a in self.coupling.monomial(label)]
            self._key[label] = tuple(sorted(g for g in owners if g >= 0))
        return self._key[label]
