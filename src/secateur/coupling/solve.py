"""The fixpoint: from facts to atoms, the units that can be removed independently.

Labels that must live and die together become one class (connected components). A class that is a product
of others stands for the conjunction of its factors, so every class has a *monomial*: the sorted tuple of
atoms that must all be kept for it to be kept; the empty monomial is pinned. Monomials absorb the order in
which axes were split and merged, so ``(A∧M)∧B`` and ``A∧(M∧B)`` are one thing from the start.

Two different monomials for one class are a structural conflict, settled last: by unifying factors, by
introducing the common refinement of two factorisations, else by pinning the shortest factor. All of these
only restrict what can be cut, so whatever the solver does is sound.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import fx

from secateur.coupling.classes import distinct, of_blocks, united
from secateur.coupling.facts import Axis, Facts, Pin, Product, refine
from secateur.coupling.monomials import Disagreements, Monomial, Rows, at_odds
from secateur.coupling.remedies import TIED

_PATIENCE = 200  # refinements tried before conflicts are settled by pinning alone
_DERIVED = "every position of it is tied to one that cannot be cut"
_UNIFORM = TIED
_CONFLICT = "two operators regroup it in ways that no smaller size fits both"
_IMPLIED = "several axes are compared with copies of themselves along it"


@dataclass(frozen=True)
class Solution:
    """What the facts amount to.

    Args:
        class_of: int64 ``[labels]``; class of each label, 0 for pinned.
        products: the classes that are products, int64 ``[products]`` ascending, and the atoms of each, int64
            ``[products, width]``, padded with 0, the pinned class, which lives always. Other classes are
            their own atom.
        reasons: for each pinned label that a rule or the solver pinned, the index into ``pins`` or -1.
        components: int64 ``[labels]``; as ``class_of``, with the classes that are pinned kept apart.
    """

    class_of: np.ndarray
    products: tuple[np.ndarray, np.ndarray]
    reasons: np.ndarray
    components: np.ndarray

    @cached_property
    def monomials(self) -> Mapping[int, Monomial]:
        """For each class that is a product, its atoms."""
        wholes, atoms = self.products
        return {w: tuple(a for a in row if a) for w, row in zip(wholes.tolist(), atoms.tolist(), strict=True)}

    def atoms_of(self, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """int64 ``[k]`` each: the atoms of several classes, and the position in ``classes`` of each, ascending."""
        wholes, atoms = self.products
        place = np.minimum(np.searchsorted(wholes, classes), max(len(wholes) - 1, 0))
        product = wholes[place] == classes if len(wholes) else np.zeros(len(classes), dtype=bool)
        if not product.any():
            where = np.nonzero(classes)[0]
            return classes[where], where
        table = np.zeros((len(classes), atoms.shape[1]), dtype=np.int64)
        table[:, 0] = classes
        table[product] = atoms[place[product]]
        where, column = np.nonzero(table)
        return table[where, column], where

    def monomial(self, label_class: int) -> Monomial:
        """Atoms that must all be kept for a class to be kept; empty if it is pinned."""
        if label_class == 0:
            return ()
        return self.monomials.get(label_class, (label_class,))


def solve(facts: Facts) -> Solution:
    """Solves the facts to a fixpoint. Adds to them the refinements that it introduces."""
    return _Solver(facts).run()


class _Solver:
    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.edges: list[tuple[np.ndarray, np.ndarray]]
        self.class_of, self.edges = of_blocks(facts.size, facts.equal, facts.blocks)
        self.pinned = np.zeros(facts.size, dtype=bool)
        self.pinned[0] = True
        self.reason = np.full(facts.size, -1)
        for index, pin in enumerate(facts.pins):
            new = pin.labels[~self.pinned[pin.labels]]
            self.pinned[new] = True
            self.reason[new] = index
        self.products = (np.empty(0, dtype=np.int64), np.empty((0, 1), dtype=np.int64))
        self.live: list[Product] = []  # products that still state something
        self.seen = 0
        self.settled = 0

    def run(self) -> Solution:
        while True:
            self._components()
            if self._simple_rules():
                continue
            if self._monomial_rules():
                continue
            break
        class_of = np.where(self.pinned, 0, self.class_of)
        return Solution(class_of, self.products, self.reason, self.class_of)

    # -- classes -------------------------------------------------------------------------------------

    def _grow(self) -> None:
        """Makes room for labels that a refinement has added."""
        more = self.facts.size - len(self.class_of)
        if more > 0:
            self.class_of = np.concatenate([self.class_of, np.arange(len(self.class_of), self.facts.size)])
            self.pinned = np.concatenate([self.pinned, np.zeros(more, dtype=bool)])
            self.reason = np.concatenate([self.reason, np.full(more, -1)])

    def _components(self) -> None:
        self._grow()
        if self.edges:
            self.class_of = united(self.class_of, self.edges)
            self.edges = []
        self._spread_pins()

    def _spread_pins(self) -> None:
        """A class with a pinned label is pinned, for the first reason any of its labels has."""
        n = len(self.class_of)
        hit = np.zeros(n, dtype=bool)
        hit[self.class_of[self.pinned]] = True
        first = np.full(n, len(self.facts.pins))
        known = self.reason >= 0
        np.minimum.at(first, self.class_of[known], self.reason[known])
        self.pinned = hit[self.class_of]
        self.reason = np.where(
            self.pinned & (first[self.class_of] < len(self.facts.pins)), first[self.class_of], -1
        )

    def _pin(self, labels: np.ndarray, why: str | int, product: Product) -> None:
        """Pins labels for a new reason, or for that of an earlier pin, by its index."""
        if isinstance(why, str):
            self.facts.pins.append(Pin(labels, why, product.node))
            why = len(self.facts.pins) - 1
        new = labels[~self.pinned[labels]]
        self.pinned[new] = True
        self.reason[new] = why

    def _tie(self, first: np.ndarray, second: np.ndarray, node: fx.Node | None = None) -> None:
        if not len(first):
            return
        self.edges.append((first, second))
        self.facts.ties.append((first, second, node))

    def _view(self, axis: Axis) -> np.ndarray:
        return np.where(self.pinned[axis], 0, self.class_of[axis])

    # -- rules that need no monomials ----------------------------------------------------------------

    def _simple_rules(self) -> bool:
        """Pins through products, uniform factors, products of one free factor. True if anything changed."""
        changed = False
        products = self.live + self.facts.products[self.seen :]
        self.seen, self.live = len(self.facts.products), []
        for product in products:
            whole = self._view(product.whole)
            factors = [self._view(f) for f in product.factors]
            sizes = tuple(len(f) for f in factors)
            for view, labels in zip(factors, product.factors, strict=True):
                if view[0] != 0 and len(view) > 1 and (view == view[0]).all():
                    self._pin(labels, _UNIFORM, product)
                    changed = True
            grid = [
                np.broadcast_to(f.reshape(_shape(i, sizes)), sizes).reshape(-1) for i, f in enumerate(factors)
            ]
            dead = whole == 0
            if dead.any():
                for i, labels in enumerate(product.factors):
                    hit = labels[distinct(np.nonzero(dead.reshape(sizes))[i])]
                    if not self.pinned[hit].all():
                        self._pin(hit, self._inherited(product.whole), product)
                        changed = True
            free = sum((g != 0).astype(np.int8) for g in grid)
            # Rows without a product left hold for good once stated: classes only grow.
            if ((free > 1) & ~dead).any() or (dead & (free > 0)).any():
                self.live.append(product)
            alone = (free == 1) & ~dead
            if alone.any():
                factor = np.max(np.stack(grid), axis=0)
                differs = alone & (factor != whole)
                if differs.any():
                    self._tie(product.whole[differs], factor[differs], product.node)
                    changed = True
            none = (free == 0) & ~dead
            if none.any():
                self._pin(product.whole[none], self._inherited(*product.factors), product)
                changed = True
        return changed

    def _inherited(self, *axes: Axis) -> str | int:
        """The pin that axes are pinned for, by its index: the cause goes where they go."""
        for axis in axes:
            known = self.reason[axis]
            known = known[known >= 0]
            if len(known):
                return int(known[0])
        for axis in axes:
            cause = self.facts.cause_of(axis)
            if cause is not None:
                self.facts.pins.append(Pin(axis[:0], cause.reason, cause.node, cause.made))
                return len(self.facts.pins) - 1
        return _DERIVED

    # -- monomials -----------------------------------------------------------------------------------

    def _monomial_rules(self) -> bool:
        """Unites classes with equal monomials and settles conflicts. True if anything changed."""
        rows = Rows.of(self.live, self._view, len(self.class_of))
        united, fixed = rows.implications()
        if len(united[0]) or len(fixed):
            self._tie(*united)
            if len(fixed):
                self._pin(fixed, _IMPLIED, self.live[0])
            return True
        circular = rows.circular()
        if circular.any():
            # It is a factor of itself: what it is part of lives whenever it does.
            factors = rows.factors[circular]
            whole = np.broadcast_to(rows.whole[circular, None], factors.shape)
            others = (factors != rows.pad) & (factors != whole)
            self._tie(whole[others], factors[others])
            return True
        forms = rows.expanded()
        self._tie(*forms.twins())
        differing = forms.disagreements()
        self._tie(*differing.equal)
        if len(differing.pinned):
            self._pin(differing.pinned, _CONFLICT, self.live[0])
        if len(differing.pinned) or self.edges:
            return True
        if len(differing.wholes):
            self._settle(differing, forms)
            return True
        self.products = forms.table()
        return False

    def _settle(self, differing: Disagreements, forms: Rows) -> None:
        """Settles pairs of products that give one class different monomials.

        One round settles every pair that shares no class with another, so that the layers of a deep network, which
        conflict each for itself, do not each cost a round. Factors are pinned only where none can be made equal.
        """
        self.settled += 1
        pairs = list(self._clashing(differing.wholes, forms)) if self.settled <= _PATIENCE else []
        for settle in (self._unify, self._pin_shortest):
            touched = np.zeros(len(self.class_of), dtype=bool)
            for first, second in pairs:
                seen = np.concatenate([self._view(a) for x in (first, second) for a in (x.whole, *x.factors)])
                seen = seen[(seen != 0) & (seen < len(touched))]
                if not touched[seen].any() and settle(first, second):
                    touched[seen] = True
            if touched.any():
                return
        self._pin(differing.atoms, _CONFLICT, self.live[0])  # derived through other products

    def _clashing(self, wholes: np.ndarray, forms: Rows) -> Iterator[tuple[Product, Product]]:
        """Pairs of products that give one of these classes different monomials, each pair once."""
        wanted = np.zeros(len(self.class_of), dtype=bool)
        wanted[wholes] = True
        holders = [p for p in self.live if wanted[self._view(p.whole)].any()]
        rows = [Rows.of([p], self._view, len(self.class_of)).expanded(forms) for p in holders]
        for i, j in at_odds(rows, wanted):
            yield holders[i], holders[j]

    def _pin_shortest(self, first: Product, second: Product) -> bool:
        free = [f for x in (first, second) for f in x.factors if not self.pinned[f].all()]
        self._pin(min(free, key=len), _CONFLICT, first)
        return True

    def _unify(self, first: Product, second: Product) -> bool:
        """Makes two products of the same classes one, factor by factor. False if that cannot be, or says nothing."""
        first, second = self._bare(first), self._bare(second)
        ours, theirs = self._view(first.whole), self._view(second.whole)
        if len(ours) != len(theirs) or (ours != theirs).any():
            return False
        common = refine([len(f) for f in first.factors], [len(f) for f in second.factors])
        if common is None or self._same_pieces(first, second):
            return False
        pieces = [
            [p for f, part in zip(x.factors, parts, strict=True) for p in self.facts.split(f, part)]
            for x, parts in ((first, common.of_first), (second, common.of_second))
        ]
        for a, b in zip(*pieces, strict=True):
            self._tie(a, b, second.node)
        return True

    def _bare(self, product: Product) -> Product:
        """A product without the factors that are pinned: along these it is copies of itself."""
        free = [not self.pinned[f].all() for f in product.factors]
        if all(free):
            return product
        whole = product.whole.reshape([len(f) for f in product.factors])
        first = whole[tuple(slice(None) if f else 0 for f in free)].reshape(-1)
        return Product(first, tuple(itertools.compress(product.factors, free)), product.node)

    def _same_pieces(self, first: Product, second: Product) -> bool:
        """Whether refining these two again would state nothing new."""
        common = refine([len(f) for f in first.factors], [len(f) for f in second.factors])
        assert common is not None
        before = self.facts.size, len(self.facts.products)
        pieces = [
            [p for f, part in zip(x.factors, parts, strict=True) for p in self.facts.split(f, part)]
            for x, parts in ((first, common.of_first), (second, common.of_second))
        ]
        if (self.facts.size, len(self.facts.products)) != before:
            self._grow()
            return False
        return all((self._view(a) == self._view(b)).all() for a, b in zip(*pieces, strict=True))


def _shape(position: int, sizes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n if i == position else 1 for i, n in enumerate(sizes))
