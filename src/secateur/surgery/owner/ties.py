"""Ties from equations: which groups must keep a common share for the user's own code to stay right.

Equations are tried at random widths that respect the ties found so far. One that fails ties the groups in it
together and keeps as few of them whole as it takes (of heads times head dimension, the heads). What remains
holds at every width, so that any plan under these ties can be written back into the class.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, isclose
from typing import Any

from secateur.coupling import Groups
from secateur.graph import Attribute, Compound, Length, Probe, evaluate, leaves
from secateur.planning import Ties
from secateur.surgery.owner.equations import TRUSTING, Equation, More, Strict, all_equations, lengths
from secateur.surgery.owner.scales import constants, fixed
from secateur.surgery.owner.symbolic import Poly, SymbolicSizes

_TRIALS = 4


def find_ties(groups: Groups, probe: Probe, more: More | None = None, *, strict: Strict = TRUSTING) -> Ties:
    """The ties under which every cut of these groups can be written back into the user's class.

    Args:
        groups: found on the model's program.
        probe: from :func:`secateur.graph.probe`.
        more: how a configuration decides sizes, where the result must fit one.
        strict: what is not trusted to follow the cut.
    """
    sizes = SymbolicSizes(groups)
    found = all_equations(groups, probe, sizes, more, strict)
    stay = constants(probe) if strict.constants else fixed(probe, groups.graph, groups.coupling.values)
    found += [Equation(u.expression, u.value, u.node) for u in stay]
    return _Search(groups, probe, found, lengths(groups, probe, sizes)).run()


@dataclass(frozen=True)
class _Point:
    """Shares that groups might keep, and what attributes then are."""

    shares: Sequence[Fraction]
    attributes: Mapping[Attribute, Fraction]


@dataclass(frozen=True)
class _Choice:
    """What might be done with the classes of an equation: kept whole, tied together, or left alone."""

    whole: frozenset[int]
    tied: tuple[int, ...]
    alone: tuple[int, ...]


def _choices(classes: Sequence[int]) -> Iterator[_Choice]:
    """The least constraining first; with many classes, only those that tie all but one of them."""
    few = len(classes) <= 5
    for whole in itertools.chain.from_iterable(
        itertools.combinations(classes, n) for n in range(len(classes) if few else 2)
    ):
        rest = [c for c in classes if c not in whole]
        for size in range(min(2, len(rest)) if few else len(rest), len(rest) + 1):
            for tied in itertools.combinations(rest, size):
                yield _Choice(frozenset(whole), tied, tuple(c for c in rest if c not in tied))


class _Search:
    def __init__(
        self, groups: Groups, probe: Probe, found: Sequence[Equation], sizes: Mapping[Length, Any]
    ) -> None:
        self.units = [g.units for g in groups]
        self.names = [g.name for g in groups]
        self.probe, self.sizes = probe, sizes
        self.parent = list(range(len(self.units)))
        self.frozen: set[int] = set()
        self.equations = found
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
    def _number(value: Any, shares: Sequence[Fraction]) -> Any:
        if isinstance(value, float):
            return value
        return value.at(shares) if isinstance(value, Poly) else Fraction(value)

    def _holds(self, equation: Equation, point: _Point) -> bool:
        right = self._number(equation.right, point.shares)
        if isinstance(equation.left, (Poly, int)):
            return self._number(equation.left, point.shares) == right

        def value_of(leaf: Attribute | Length) -> Any:
            if isinstance(leaf, Attribute):
                return point.attributes.get(leaf)
            size = self.sizes.get(leaf)
            return None if size is None else self._number(size, point.shares)

        if any(value_of(leaf) is None for leaf in leaves(equation.left)):
            return True  # the size of a value that was lost sight of
        try:
            found = evaluate(equation.left, value_of)
            return isclose(found, right) if isinstance(right, float) else bool(found == right)
        except (ArithmeticError, ValueError, TypeError):
            return False

    # -- tying ---------------------------------------------------------------------------------------

    def _refine(self, equation: Equation) -> bool:
        """Makes an equation that fails hold: keeps as few groups whole and ties as few together as it takes."""
        involved = {g for p in self._polys(equation) for g in p.groups} - self.frozen
        if not involved:
            return False  # no choice of widths mends it: what it is shows when the class is run
        classes = sorted({self._root(g) for g in involved}, key=lambda g: (self.units[g], g))
        choice = (
            None
            if equation.literal
            else next((c for c in _choices(classes) if self._mended(equation, c)), None)
        )
        whole, tied = (set(classes), ()) if choice is None else (choice.whole, choice.tied)
        self.frozen |= {i for i in range(len(self.units)) if self._root(i) in whole}
        for c in tied[1:]:
            self.parent[c] = tied[0]
        return True

    def _mended(self, equation: Equation, choice: _Choice) -> bool:
        """Whether the equation holds whatever share the tied classes keep together and the others each alone."""
        inside: dict[int, list[int]] = {}
        for i in range(len(self.units)):
            root = self._root(i)
            if i not in self.frozen and root in (*choice.tied, *choice.alone):
                inside.setdefault(choice.tied[0] if root in choice.tied else root, []).append(i)
        for attempt in range(3):
            shares = [Fraction(1)] * len(self.units)
            for members in inside.values():
                levels = gcd(*(self.units[i] for i in members))
                if levels == 1:
                    return False
                level = (1, levels - 1, self.random.randint(1, levels))[attempt]
                for i in members:
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
                    sides += [e.right for e in self.pure.get(leaf, ())[:1]]
        return (s for s in sides if isinstance(s, Poly))

    def _root(self, i: int) -> int:
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i
