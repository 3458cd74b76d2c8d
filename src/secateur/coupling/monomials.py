"""Monomials as arrays: what a class that is a product stands for, in atoms that must all live.

A row says ``whole = factor and factor and ...``. The rows of all products stand in one matrix, so that a pass
over a network with a hundred layers is a few operations on arrays, however many rows there are.

Suffixes: rows ``[n]``, their factors ``[n, width]``: ascending, each once, padded at the end with the
number of labels, which is no label.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from secateur.coupling.classes import distinct
from secateur.coupling.facts import Axis, Product, broadcast

Monomial = tuple[int, ...]


@dataclass(frozen=True)
class Rows:
    """Distinct rows, sorted by whole, number of factors, factors; so each whole's shortest row comes first.

    Args:
        whole: int64 ``[n]``: the class that is a product.
        factors: int64 ``[n, width]``.
        pad: the number of labels.
    """

    whole: np.ndarray
    factors: np.ndarray
    pad: int

    @classmethod
    def of(cls, products: Sequence[Product], view: Callable[[Axis], np.ndarray], pad: int) -> Rows:
        """The rows of products, seen through ``view``: the class of each label, 0 where it is pinned.

        A pinned factor lives always, so it says nothing; a row without a free factor, or whose only one is the whole
        itself, is left out.
        """
        width = max((len(p.factors) for p in products), default=1)
        wholes, tables = [np.empty(0, dtype=np.int64)], [np.empty((0, width), dtype=np.int64)]
        for product in products:
            sizes = [len(f) for f in product.factors]
            table = np.full((len(product.whole), width), pad, dtype=np.int64)
            for i, factor in enumerate(product.factors):
                seen = view(factor)
                table[:, i] = broadcast(np.where(seen == 0, pad, seen), i, sizes).reshape(-1)
            wholes.append(view(product.whole))
            tables.append(table)
        whole, factors = np.concatenate(wholes), _ascending(np.concatenate(tables), pad)
        trivial = (factors[:, 0] == whole) & (factors[:, 1:] == pad).all(axis=1)
        told = (whole != 0) & (factors[:, 0] != pad) & ~trivial
        return cls._sorted(whole[told], factors[told], pad)

    @classmethod
    def _sorted(cls, whole: np.ndarray, factors: np.ndarray, pad: int) -> Rows:
        count = (factors != pad).sum(axis=1)
        order = np.lexsort((*factors.T[::-1], count, whole))
        whole, factors = whole[order], factors[order]
        differs = np.ones(len(whole), dtype=bool)
        differs[1:] = (whole[1:] != whole[:-1]) | (factors[1:] != factors[:-1]).any(axis=1)
        return cls(whole[differs], factors[differs], pad)

    @property
    def first(self) -> np.ndarray:
        """bool ``[n]``: whether a row is the first of its whole."""
        first = np.ones(len(self.whole), dtype=bool)
        first[1:] = self.whole[1:] != self.whole[:-1]
        return first

    def implications(self) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        """Pairs of classes to unite, and classes to pin, for rows that name their own whole.

        Such a row says that its whole lives only where its other factors do. Two are united where each has no other
        partner; more of them at once would make whole axes live and die together. Elsewhere the factor is pinned.
        """
        own = self.factors == self.whole[:, None]
        others = (self.factors != self.pad) & ~own & own.any(axis=1)[:, None]
        whole = np.broadcast_to(self.whole[:, None], others.shape)
        base = self.pad + 1
        pairs = np.stack(np.divmod(distinct(whole[others] * base + self.factors[others]), base))
        wholes, factors = (np.bincount(side, minlength=base) for side in pairs)
        alone = (wholes[pairs[0]] == 1) & (factors[pairs[1]] == 1)
        pinned = np.zeros(base, dtype=bool)
        pinned[pairs[1]] = True
        pinned[pairs[1][alone]] = False
        return (pairs[0][alone], pairs[1][alone]), np.flatnonzero(pinned)

    def circular(self) -> np.ndarray:
        """bool ``[n]``: rows whose whole is a factor of a factor of itself, by the first row of each whole."""
        own, factors = self.whole[self.first], self.factors[self.first]
        open_ = np.zeros(self.pad + 1, dtype=bool)
        open_[own] = True
        while True:  # a whole whose factors are all settled is settled
            left = open_[factors].any(axis=1)
            open_[own] = left
            if left.all():
                break
            own, factors = own[left], factors[left]
        if not len(own):
            return np.zeros(len(self.whole), dtype=bool)
        from scipy.sparse import coo_array  # rarely needed, and slow to import
        from scipy.sparse.csgraph import connected_components

        inside = open_[factors]
        head = np.repeat(own, inside.sum(axis=1))
        arcs = (np.ones(len(head), dtype=np.int8), (head, factors[inside]))
        size = self.pad + 1
        _, ring = connected_components(coo_array(arcs, (size, size)), directed=True, connection="strong")
        round_ = (np.bincount(ring) > 1)[ring]
        round_[head[head == factors[inside]]] = True
        return round_[self.whole]

    def expanded(self, by: Rows | None = None) -> Rows:
        """The rows in atoms: factors that are products themselves are replaced by theirs.

        Needs rows that are not circular. What the factors are made of is said by other rows, if these are given.
        """
        by = by or self
        place = np.full(self.pad + 1, -1, dtype=np.int64)
        place[by.whole[by.first]] = np.nonzero(by.first)[0]
        factors = self.factors
        while (known := place[factors] >= 0).any():
            hit = known.any(axis=1)
            theirs = np.where(known[hit][:, :, None], by.factors[place[factors[hit]]], self.pad)
            own = np.where(known[hit], self.pad, factors[hit])
            grown = _ascending(np.concatenate([own, theirs.reshape(len(own), -1)], axis=1), self.pad)
            width = max(grown.shape[1], factors.shape[1])
            factors = _widened(factors, width, self.pad)
            factors[hit] = _widened(grown, width, self.pad)
        return self if factors is self.factors else self._sorted(self.whole, factors, self.pad)

    def twins(self) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of wholes that must be one class: same first row, or a single factor."""
        whole, factors = self.whole[self.first], self.factors[self.first]
        order = np.lexsort(factors.T[::-1])
        same = (factors[order[1:]] == factors[order[:-1]]).all(axis=1)
        single = (factors[:, 1:] == self.pad).all(axis=1)
        left = np.concatenate([whole[order[:-1][same]], whole[single]])
        return left, np.concatenate([whole[order[1:][same]], factors[single, 0]])

    def disagreements(self) -> Disagreements:
        """What the further rows of a whole say beside its first."""
        first, pad = self.first, self.pad
        start = np.nonzero(first)[0][np.cumsum(first)[~first] - 1]
        one, other = self.factors[start], self.factors[~first]
        matrix = (one[:, :, None] == other[:, None, :]) & (one != pad)[:, :, None]
        ours = np.where(matrix.any(axis=2), pad, one)
        theirs = np.where(matrix.any(axis=1), pad, other)
        more, less = (ours != pad).sum(axis=1), (theirs != pad).sum(axis=1)
        swap, idle = (more == 1) & (less == 1), (more == 0) | (less == 0)
        spare = np.concatenate([ours[idle].reshape(-1), theirs[idle].reshape(-1)])
        rest = np.nonzero(~swap & ~idle)[0]
        return Disagreements(
            (ours[swap].min(axis=1, initial=pad), theirs[swap].min(axis=1, initial=pad)),
            distinct(spare[spare != pad]),
            self.whole[~first][rest],
            distinct(np.concatenate([ours[rest[:1]], theirs[rest[:1]], [[pad]]], axis=None))[:-1],
        )

    def table(self) -> tuple[np.ndarray, np.ndarray]:
        """Wholes, sorted, and the atoms of each, padded with 0, which lives always."""
        factors = self.factors[self.first]
        return self.whole[self.first], np.where(factors == self.pad, 0, factors)


@dataclass(frozen=True)
class Disagreements:
    """Classes that two products define differently.

    Args:
        equal: atoms that must be one, pairwise: all else in the two monomials is the same.
        pinned: atoms that only one of two nested monomials has.
        wholes: classes with two monomials that differ in more.
        atoms: those in which the first of these differ.
    """

    equal: tuple[np.ndarray, np.ndarray]
    pinned: np.ndarray
    wholes: np.ndarray
    atoms: np.ndarray


def at_odds(rows: Sequence[Rows], wanted: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of products, each given by its rows in atoms, that say different things of a class, each pair once.

    Args:
        rows: of each product.
        wanted: bool ``[labels]``: the classes to look at.
    """
    width = max((r.factors.shape[1] for r in rows), default=1)
    owner = np.concatenate([np.full(len(r.whole), i) for i, r in enumerate(rows)] or [np.empty(0, dtype=int)])
    whole = np.concatenate([np.empty(0, dtype=np.int64), *(r.whole for r in rows)])
    table = np.concatenate(
        [np.empty((0, width), dtype=np.int64), *(_widened(r.factors, width, r.pad) for r in rows)]
    )
    owner, whole, table = owner[wanted[whole]], whole[wanted[whole]], table[wanted[whole]]
    order = np.lexsort((*table.T[::-1], whole))
    owner, whole, table = owner[order], whole[order], table[order]
    form = np.cumsum(np.r_[False, (table[1:] != table[:-1]).any(axis=1)])  # equal for equal rows of one class
    starts = np.nonzero(np.r_[True, whole[1:] != whole[:-1]])[0] if len(whole) else np.empty(0, dtype=int)
    said = dict.fromkeys(
        tuple(zip(owners.tolist(), (forms - forms[0]).tolist(), strict=True))
        for owners, forms in zip(np.split(owner, starts[1:]), np.split(form, starts[1:]), strict=True)
        if len(forms)
    )
    pairs = (
        (min(i, j), max(i, j)) for one in said for (i, f), (j, g) in itertools.combinations(one, 2) if f != g
    )
    return sorted({(i, j) for i, j in pairs if i != j})


def _ascending(table: np.ndarray, pad: int) -> np.ndarray:
    """Each row ascending, every entry once, as narrow as it can be."""
    table = np.sort(table, axis=1)
    again = (table[:, 1:] == table[:, :-1]) & (table[:, 1:] != pad)
    if again.any():
        table[:, 1:][again] = pad
        table = np.sort(table, axis=1)
    width = int((table != pad).sum(axis=1).max(initial=1))
    return table[:, :width]


def _widened(table: np.ndarray, width: int, pad: int) -> np.ndarray:
    more = np.full((len(table), width - table.shape[1]), pad, dtype=np.int64)
    return np.concatenate([table, more], axis=1)
