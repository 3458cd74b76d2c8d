"""From timed operators to a sum of products of lengths.

Each operator's share is fitted, with coefficients that are not negative (Lawson and Hanson, Solving Least Squares
Problems, 1974, chapter 23), to all products of the lengths that its shapes have: work, traffic and a constant. A
runtime computes in blocks, so lengths are rounded up first, by the block that explains a kernel's times best. Some
kernels go another, slower way where a width is no multiple of what they compute at once, and a narrower layer then
takes longer than a wider one.  Relative errors count, because a budget is a ratio. What is not in any operator, the
runtime's own overhead, less what the profiler adds to each, is found on whole networks, and so is how wrong it all is:
on networks left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from scipy.optimize import nnls

from secateur.cost import Fit, FittedTerm, counted
from secateur.latency.align import Aligned
from secateur.latency.lengths import Explained, Lengths

QUANTA = (1, 4, 8, 16, 32, 64)
VECTORS = (0, 8, 16, 32)
CLEARLY = 0.02  # of a kernel's time, explained by what ragged widths cost, before that counts
MOST = 3  # lengths that one operator's work is the product of
TRIFLE = 1e-4  # shares below this are not worth their relative error
ANCHOR = 4.0  # how much more the dense network counts: every ratio is to it


@dataclass(frozen=True)
class Operator:
    """An operator and what its time follows.

    Args:
        aligned: its times.
        axes: the lengths in its shapes, and the blocks that its shapes themselves tell.
        quantum: what the lengths are rounded up to where the shapes do not tell.
        vector: what a length has to be a multiple of to cost nothing more; 0 where it does not matter.
    """

    aligned: Aligned
    axes: tuple[Explained, ...]
    quantum: int = 1
    vector: int = 0

    @property
    def products(self) -> list[Product]:
        """The terms: products of lengths in blocks, and what ragged ones cost alone."""
        blocks = {a.place: a.block if a.block > 1 else self.quantum for a in self.axes}
        whole = [
            Product(places, tuple(blocks[i] for i in places), False)
            for n in range(len(self.axes) + 1)
            for places in combinations(blocks, n)
        ]
        return [*whole, *(Product((i,), (self.vector,), True) for i in blocks if self.vector)]


@dataclass(frozen=True)
class Product:
    """Lengths, by their places in the table; see :class:`secateur.cost.FittedTerm`."""

    places: tuple[int, ...]
    quanta: tuple[int, ...]
    ragged: bool


def fit(
    operators: Sequence[Aligned],
    ratios: np.ndarray,
    table: Lengths,
    reference_ms: float,
    about: Mapping[str, Any],
) -> Fit:
    """Fits operators and the whole.

    Args:
        operators: of all networks, the dense one first.
        ratios: float64 ``[networks]``, of the networks' whole times to the dense one's.
        table: the lengths in these networks.
        reference_ms: what the dense network takes.
        about: goes into the record.
    """
    known = _stepped([_operator(one, table) for one in operators], table)
    everyone = np.arange(len(ratios))
    constants, overhead, factor = _solve(known, ratios, table, everyone)
    errors = []
    for left_out in everyone[1:]:
        rest = everyone[everyone != left_out]
        found, base, slope = _solve(known, ratios, table, rest)
        predicted = base + slope * sum(
            float(_features(o, table)[left_out] @ c) for o, c in zip(known, found, strict=True)
        )
        errors.append(abs(predicted / ratios[left_out] - 1))
    terms = [FittedTerm("overhead", overhead * reference_ms, ())]
    for operator, values in zip(known, constants, strict=True):
        for product, value in zip(operator.products, values, strict=True):
            if value > 0:
                names = tuple(table.references[i] for i in product.places)
                scaled = float(value) * factor * reference_ms
                terms.append(FittedTerm(operator.aligned.name, scaled, names, product.quanta, product.ragged))
    middle, high = np.quantile(errors, [0.5, 0.9]) if errors else (0.0, 0.0)
    return Fit(tuple(terms), float(middle), float(high), len(ratios), about)


def _operator(aligned: Aligned, table: Lengths) -> Operator:
    """The lengths in an operator's shapes; the most frequent where there are too many. A length that is there as it is
    and padded as well is worked on padded."""
    found: dict[int, int] = {}
    blocks: dict[int, int] = {}
    for column in _tensors(aligned):
        for dimension in np.array(column, dtype=np.int64).reshape(len(column), -1).T:
            if dimension[0] > 0 and (dimension != dimension[0]).any():
                one = table.explain(dimension)
                if one is not None:
                    found[one.place] = found.get(one.place, 0) + 1
                    blocks[one.place] = max(blocks.get(one.place, 1), one.block)
    chosen = sorted(sorted(found, key=lambda i: -found[i])[:MOST])
    return Operator(aligned, tuple(Explained(i, blocks[i]) for i in chosen))


def _tensors(aligned: Aligned) -> list[list[tuple[int, ...]]]:
    """An operator's inputs and outputs, each over all networks."""
    if len({tuple(len(shape) for shape in shapes) for shapes in aligned.shapes}) == 1:
        return [list(column) for column in zip(*aligned.shapes, strict=True)]
    # Another fusion here and there; the output's shape is the last, whatever was fused.
    last = {len(shapes[-1]) for shapes in aligned.shapes if shapes}
    return [[shapes[-1] for shapes in aligned.shapes]] if len(last) == 1 else []


def _stepped(operators: Sequence[Operator], table: Lengths) -> list[Operator]:
    """Each with the blocks that explain its kernel's times best; the plainer, unless the other explains much more."""
    found = {}
    for op, same in _by_kernel(operators).items():
        misfits = {
            (quantum, vector): sum(_misfit(replace(o, quantum=quantum, vector=vector), table) for o in same)
            for vector in VECTORS
            for quantum in QUANTA
        }
        plain = min((m, q) for (q, vector), m in misfits.items() if not vector)
        best, blocks = min((m, blocks) for blocks, m in misfits.items())
        found[op] = blocks if plain[0] - best > CLEARLY * _total(same) else (plain[1], 0)
    return [
        replace(o, quantum=found[o.aligned.op][0], vector=found[o.aligned.op][1])
        if o.aligned.op in found
        else o
        for o in operators
    ]


def _by_kernel(operators: Sequence[Operator]) -> dict[str, list[Operator]]:
    """Operators that depend on a length, by their kernels."""
    found: dict[str, list[Operator]] = {}
    for one in operators:
        if one.axes:
            found.setdefault(one.aligned.op, []).append(one)
    return found


def _total(operators: Sequence[Operator]) -> float:
    return sum(float(o.aligned.shares.sum()) for o in operators)


def _misfit(operator: Operator, table: Lengths) -> float:
    features, shares = _features(operator, table), operator.aligned.shares
    return float(np.abs(features @ _coefficients(features, shares) - shares).sum())


def _features(operator: Operator, table: Lengths) -> np.ndarray:
    """float64 ``[networks, products]``."""
    columns = [np.prod(_counted(table, p), axis=1, dtype=float) for p in operator.products]
    return np.stack(columns, axis=1)


def _counted(table: Lengths, product: Product) -> np.ndarray:
    """int64 ``[networks, lengths]``."""
    quanta = np.array(product.quanta, dtype=np.int64)
    return counted(table.values[:, list(product.places)], quanta, product.ragged)


def _coefficients(features: np.ndarray, shares: np.ndarray) -> np.ndarray:
    weights = 1.0 / np.maximum(shares, TRIFLE)
    weights[0] *= ANCHOR
    scale = np.maximum(features.max(axis=0), 1e-30)
    found, _ = nnls(features / scale * weights[:, None], shares * weights)
    return np.asarray(found / scale)


def _solve(
    operators: Sequence[Operator], ratios: np.ndarray, table: Lengths, rows: np.ndarray
) -> tuple[list[np.ndarray], float, float]:
    """Coefficients of each operator, the overhead, and the factor that brings their sum to the whole."""
    constants, total = [], np.zeros(len(rows))
    for operator in operators:
        features = _features(operator, table)[rows]
        constants.append(_coefficients(features, operator.aligned.shares[rows]))
        total += features @ constants[-1]
    weights = 1.0 / ratios[rows]
    weights[0] *= ANCHOR
    whole = np.stack([np.ones(len(rows)), total], axis=1) * weights[:, None]
    overhead, factor = np.linalg.lstsq(whole, ratios[rows] * weights, rcond=None)[0]
    return constants, float(overhead), float(factor)
