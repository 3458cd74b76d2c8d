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

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
from torch import fx

from secateur.coupling.facts import Axis, Facts, Pin, Product, refine
from secateur.coupling.remedies import TIED

Monomial = tuple[int, ...]

_PATIENCE = 200  # refinements tried before conflicts are settled by pinning alone
_DERIVED = "every position of it is tied to one that cannot be cut"
_UNIFORM = TIED
_CONFLICT = "two operators regroup it in ways that no smaller size fits both"
_IMPLIED = "several axes are compared with copies of themselves along it"


@dataclass(frozen=True)
class Solution:
    """What the facts amount to.

    Args:
        atom_of: int64 ``[labels]``; class of each label, 0 for pinned.
        monomials: for each class that is a product, its atoms; other classes are their own atom.
        reasons: for each pinned label that a rule or the solver pinned, the index into ``pins`` or -1.
        components: int64 ``[labels]``; as ``class_of``, with the classes that are pinned kept apart.
    """

    class_of: np.ndarray
    monomials: dict[int, Monomial]
    reasons: np.ndarray
    components: np.ndarray

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
        self.edges: list[tuple[np.ndarray, np.ndarray]] = list(facts.equal)
        self.class_of = np.arange(facts.size)
        self.pinned = np.zeros(facts.size, dtype=bool)
        self.pinned[0] = True
        self.reason = np.full(facts.size, -1)
        for index, pin in enumerate(facts.pins):
            new = pin.labels[~self.pinned[pin.labels]]
            self.pinned[new] = True
            self.reason[new] = index
        self.monomials: dict[int, Monomial] = {}
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
        return Solution(class_of, self.monomials, self.reason, self.class_of)

    # -- classes -------------------------------------------------------------------------------------

    def _grow(self) -> None:
        """Makes room for labels that a refinement has added."""
        more = self.facts.size - len(self.class_of)
        if more > 0:
            self.class_of = np.concatenate([self.class_of, np.arange(len(self.class_of), self.facts.size)])
            self.pinned = np.concatenate([self.pinned, np.zeros(more, dtype=bool)])
            self.reason = np.concatenate([self.reason, np.full(more, -1)])

    def _components(self) -> None:
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        self._grow()
        if not self.edges:
            self._spread_pins()
            return
        a = self.class_of[np.concatenate([x for x, _ in self.edges])]
        b = self.class_of[np.concatenate([y for _, y in self.edges])]
        self.edges = []
        n = len(self.class_of)
        _, component = connected_components(
            coo_array((np.ones(len(a), dtype=np.int8), (a, b)), (n, n)), False
        )
        smallest = np.full(component.max() + 1, n)
        np.minimum.at(smallest, component, np.arange(n))
        self.class_of = smallest[component][self.class_of]
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
                    hit = labels[np.unique(np.nonzero(dead.reshape(sizes))[i])]
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
        rows = self._rows()
        definitions: dict[int, set[Monomial]] = defaultdict(set)
        for whole, factors in rows:
            definitions[whole].add(factors)
        expand = _Expander(definitions)
        left: list[int] = []
        right: list[int] = []
        pins: list[int] = []
        implied: list[tuple[int, int]] = []  # the first lives only where the second does
        conflicts: dict[int, tuple[Monomial, Monomial]] = {}
        by_monomial: dict[Monomial, int] = {}
        for whole, alternatives in definitions.items():
            if within := [f for f in alternatives if whole in f]:
                implied += [(whole, a) for f in within for a in f if a != whole]
                continue
            forms = sorted({expand.product(f) for f in alternatives}, key=lambda m: (len(m), m))
            if any(whole in f for f in forms) or expand.cycles(whole):
                # It is a factor of itself: what it is part of lives whenever it does.
                others = {a for f in alternatives for a in f if a != whole}
                left += [whole] * len(others)
                right += sorted(others)
                continue
            first = forms[0]
            if len(first) == 1:
                left.append(whole)
                right.append(first[0])
            twin = by_monomial.setdefault(first, whole)
            if twin != whole:
                left.append(twin)
                right.append(whole)
            for other in forms[1:]:
                ours, theirs = set(first) - set(other), set(other) - set(first)
                if len(ours) == 1 and len(theirs) == 1:
                    left.append(ours.pop())
                    right.append(theirs.pop())
                elif not ours or not theirs:
                    pins += sorted(ours | theirs)
                else:
                    conflicts[whole] = (first, other)
        united, fixed = _implications(implied)
        left += [whole for whole, _ in united]
        right += [factor for _, factor in united]
        if left or pins or fixed:
            if left:
                self._tie(np.array(left), np.array(right))
            if pins:
                self._pin(np.array(pins), _CONFLICT, self.live[0])
            if fixed:
                self._pin(np.array(fixed), _IMPLIED, self.live[0])
            return True
        if conflicts:
            self._settle(conflicts)
            return True
        self.monomials = {whole: expand.product(min(forms)) for whole, forms in definitions.items()}
        return False

    def _rows(self) -> list[tuple[int, Monomial]]:
        """Distinct rows ``(whole, free factors)`` of the products that are left."""
        found: dict[tuple[int, ...], None] = {}
        for product in self.live:
            whole = self._view(product.whole)
            sizes = tuple(len(f) for f in product.factors)
            grid = [
                np.broadcast_to(self._view(f).reshape(_shape(i, sizes)), sizes).reshape(-1)
                for i, f in enumerate(product.factors)
            ]
            table = np.stack([whole, *grid], axis=1)[whole != 0]
            found.update(dict.fromkeys(map(tuple, table.tolist())))
        rows: list[tuple[int, Monomial]] = []
        for row in found:
            free = tuple(sorted({f for f in row[1:] if f}))
            if free and free != row[:1]:
                rows.append((row[0], free))
        return rows

    def _settle(self, conflicts: dict[int, tuple[Monomial, Monomial]]) -> None:
        """Settles the first pair of products that give one class different monomials."""
        self.settled += 1
        for first, second in self._clashing(conflicts) if self.settled <= _PATIENCE else []:
            ours, theirs = self._view(first.whole), self._view(second.whole)
            sizes = [len(f) for f in first.factors], [len(f) for f in second.factors]
            common = refine(*sizes) if len(ours) == len(theirs) and (ours == theirs).all() else None
            if common is not None and not self._same_pieces(first, second):
                pieces = [
                    [p for f, part in zip(x.factors, parts, strict=True) for p in self.facts.split(f, part)]
                    for x, parts in ((first, common.of_first), (second, common.of_second))
                ]
                for a, b in zip(*pieces, strict=True):
                    self._tie(a, b, second.node)
                return
            free = [f for x in (first, second) for f in x.factors if not self.pinned[f].all()]
            self._pin(min(free, key=len), _CONFLICT, first)
            return
        # Derived through other products: the atoms themselves are pinned.
        first_form, second_form = next(iter(conflicts.values()))
        self._pin(np.array(sorted(set(first_form) ^ set(second_form))), _CONFLICT, self.live[0])

    def _clashing(self, conflicts: dict[int, tuple[Monomial, Monomial]]) -> list[tuple[Product, Product]]:
        holders: dict[int, list[Product]] = defaultdict(list)
        for product in self.live:
            for label in np.unique(self._view(product.whole)).tolist():
                if label in conflicts:
                    holders[label].append(product)
        pairs = []
        for held in holders.values():
            for i, first in enumerate(held):
                for second in held[i + 1 :]:
                    if [len(f) for f in first.factors] != [len(f) for f in second.factors]:
                        pairs.append((first, second))
                    elif any(
                        (self._view(a) != self._view(b)).any()
                        for a, b in zip(first.factors, second.factors, strict=True)
                    ):
                        pairs.append((first, second))
            if pairs:
                return pairs
        return pairs

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


def _implications(pairs: list[tuple[int, int]]) -> tuple[list[tuple[int, int]], list[int]]:
    """What makes ``(a, b)``, a lives only where b does, true: a and b united, or b pinned.

    They are united where each has no other partner; more of them at once would make whole axes live and die
    together. Returns the pairs to unite and what to pin.
    """
    of_first, of_second = Counter(a for a, _ in set(pairs)), Counter(b for _, b in set(pairs))
    united = [(a, b) for a, b in dict.fromkeys(pairs) if of_first[a] == of_second[b] == 1]
    fixed = sorted({b for _, b in pairs} - {b for _, b in united})
    return united, fixed


class _Expander:
    """Monomials in terms of atoms, substituting the definitions of product classes."""

    def __init__(self, definitions: dict[int, set[Monomial]]) -> None:
        self.definitions = definitions
        self.known: dict[int, Monomial] = {}
        self.cyclic: set[int] = set()

    def product(self, factors: Monomial) -> Monomial:
        return tuple(sorted({a for f in factors for a in self.atom(f)}))

    def atom(self, name: int, above: tuple[int, ...] = ()) -> Monomial:
        if name not in self.definitions:
            return (name,)
        if name in self.known:
            return self.known[name]
        if name in above:
            self.cyclic.add(name)
            return (name,)
        factors = min(self.definitions[name], key=lambda m: (len(m), m))
        form = tuple(sorted({a for f in factors for a in self.atom(f, (*above, name))}))
        self.known[name] = form
        return form

    def cycles(self, name: int) -> bool:
        self.atom(name)
        return name in self.cyclic


def _shape(position: int, sizes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n if i == position else 1 for i, n in enumerate(sizes))
