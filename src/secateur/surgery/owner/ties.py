"""Ties from equations: which groups must keep a common share for the user's own code to stay right.

Equations are tried at random widths that respect the ties found so far. One that fails ties the groups in it
together and keeps as few of them whole as it takes (of heads times head dimension, the heads). What remains
holds at every width, so that any plan under these ties can be written back into the class.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd
from typing import Any

from secateur.coupling import Groups
from secateur.graph import Attribute, Compound, Length, Probe, evaluate, leaves
from secateur.planning import Ties
from secateur.surgery.owner.equations import Equation, equations, lengths
from secateur.surgery.owner.symbolic import Poly, SymbolicSizes

_TRIALS = 4


def find_ties(groups: Groups, probe: Probe) -> Ties:
    """The ties under which every cut of these groups can be written back into the user's class."""
    sizes = SymbolicSizes(groups)
    found = equations(groups, probe, sizes)
    return _Search(groups, probe, found, lengths(groups, probe, sizes)).run()


@dataclass(frozen=True)
class _Point:
    """Shares that groups might keep, and what attributes then are."""

    shares: Sequence[Fraction]
    attributes: Mapping[Attribute, Fraction]


class _Search:
    def __init__(
        self, groups: Groups, probe: Probe, found: Sequence[Equation], sizes: Mapping[Length, Any]
    ) -> None:
        self.units = [g.units for g in groups]
        self.names = [g.name for g in groups]
        self.probe, self.sizes = probe, sizes
        self.parent = list(range(len(self.units)))
        self.frozen: set[int] = set()
        self.equations = [e for e in found if not isinstance(e.right, float)]
        self.pure: dict[Attribute, list[Equation]] = {}
        for equation in self.equations:
            if isinstance(equation.left, Attribute):
                self.pure.setdefault(equation.left, []).append(equation)
        self.random = random.Random(0)

    def run(self) -> Ties:
        quiet = 0
        while quiet < _TRIALS:  # in a row
            quiet = 0 if self._pass() else quiet + 1
        members: dict[int, list[str]] = {}
        for i, name in enumerate(self.names):
            if i not in self.frozen:
                members.setdefault(self._root(i), []).append(name)
        tied = tuple(tuple(m) for m in members.values() if len(m) > 1)
        return Ties(tied, frozenset(self.names[i] for i in self.frozen))

    # -- one trial -----------------------------------------------------------------------------------

    def _pass(self) -> bool:
        """Checks all equations at random widths; True if one failed and something was tied."""
        point = self._point()
        changed = False
        for equation in self.equations:
            if not self._holds(equation, point):
                changed |= self._refine(equation)
        return changed

    def _point(self) -> _Point:
        shares = [Fraction(1)] * len(self.units)
        members: dict[int, list[int]] = {}
        for i in range(len(self.units)):
            if i not in self.frozen:
                members.setdefault(self._root(i), []).append(i)
        for inside in members.values():
            levels = gcd(*(self.units[i] for i in inside))
            share = Fraction(self.random.randint(1, levels), levels)
            for i in inside:
                shares[i] = share
        return self._at(shares)

    def _at(self, shares: Sequence[Fraction]) -> _Point:
        attributes = {
            a: self._number(self.pure[a][0].right, shares) if a in self.pure else Fraction(v)
            for a, v in self.probe.attributes.items()
        }
        return _Point(shares, attributes)

    @staticmethod
    def _number(value: Any, shares: Sequence[Fraction]) -> Fraction:
        return value.at(shares) if isinstance(value, Poly) else Fraction(value)

    def _holds(self, equation: Equation, point: _Point) -> bool:
        right = self._number(equation.right, point.shares)
        if isinstance(equation.left, (Poly, int)):
            return self._number(equation.left, point.shares) == right

        def value_of(leaf: Attribute | Length) -> Any:
            if isinstance(leaf, Attribute):
                return point.attributes[leaf]
            size = self.sizes.get(leaf)
            return None if size is None else self._number(size, point.shares)

        if any(value_of(leaf) is None for leaf in leaves(equation.left)):
            return True  # the size of a value that was lost sight of
        try:
            return bool(evaluate(equation.left, value_of) == right)
        except (ArithmeticError, ValueError, TypeError):
            return False

    # -- tying ---------------------------------------------------------------------------------------

    def _refine(self, equation: Equation) -> bool:
        """Ties the groups of an equation that fails, and keeps as few of them whole as it takes to make it hold."""
        involved = {g for p in self._polys(equation) for g in p.groups} - self.frozen
        if not involved:
            return False  # no choice of widths mends it: what it is shows when the class is run
        classes = sorted({self._root(g) for g in involved}, key=lambda g: (self.units[g], g))
        whole = next(
            (set(c) for c in self._choices(classes) if self._mended(equation, set(classes) - set(c))), None
        )
        if equation.literal or whole is None:
            whole = set(classes)
        self.frozen |= {i for i in range(len(self.units)) if self._root(i) in whole}
        rest = [c for c in classes if c not in whole]
        for c in rest[1:]:
            self.parent[c] = rest[0]
        return True

    @staticmethod
    def _choices(classes: list[int]) -> Iterable[tuple[int, ...]]:
        """What might be kept whole, least first; all pairs only where they are few."""
        sizes = range(len(classes)) if len(classes) <= 6 else range(2)
        return (c for size in sizes for c in itertools.combinations(classes, size))

    def _mended(self, equation: Equation, scaled: set[int]) -> bool:
        """Whether the equation holds when these classes keep one common share and all others everything."""
        inside = [i for i in range(len(self.units)) if i not in self.frozen and self._root(i) in scaled]
        levels = gcd(*(self.units[i] for i in inside))
        if levels == 1:
            return False
        for level in {1, levels // 2, levels - 1}:
            shares = [Fraction(1)] * len(self.units)
            for i in inside:
                shares[i] = Fraction(level, levels)
            if not self._holds(equation, self._at(shares)):
                return False
        return True

    def _polys(self, equation: Equation) -> Iterable[Poly]:
        sides = [equation.right, equation.left]
        if isinstance(equation.left, (Attribute, Length, Compound)):
            for leaf in leaves(equation.left):
                if isinstance(leaf, Length):
                    sides.append(self.sizes.get(leaf))
                else:
                    sides += [e.right for e in self.pure.get(leaf, ())]
        return (s for s in sides if isinstance(s, Poly))

    def _root(self, i: int) -> int:
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i
