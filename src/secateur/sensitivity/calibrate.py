"""Any criterion in units of loss: each group's saliencies are scaled so that they add up to its measured curve.

Magnitudes of different layers have no common unit, and even Taylor's do only near the dense model. A curve says what
the n least salient units of a group cost together; the criterion says which these are, and how they share it. After
that a solver may weigh any group against any other, and against what it costs.
"""

from __future__ import annotations

import numpy as np

from secateur.scoring import Scores
from secateur.sensitivity.record import Curve, Sensitivity


def calibrated(scores: Scores, curves: Sensitivity) -> Scores:
    """The same order of units within every group, in units of the loss.

    Args:
        scores: by the criterion that the curves were measured with.
        curves: of the same groups; a group without a curve keeps the mean of the others, unit by unit.
    """
    found = {}
    for group in scores.groups:
        curve = curves.of(group.name)
        if curve is not None and curve.units == group.units:
            found[group.name] = _shared(scores.aligned(group.name), curve)
    typical = float(np.mean(np.concatenate(list(found.values())))) if found else 1.0
    values, cells = {}, {}
    for group in scores.groups:
        raw = scores.aligned(group.name)
        new = found.get(group.name, np.full(group.units, typical))
        if group.name in scores.cells:
            cells[group.name] = _spread(scores.cells[group.name], new)
        values[group.name] = new if group.name in found else raw / max(float(raw.mean()), 1e-30) * typical
    return Scores(
        scores.groups, values, f"{scores.criterion}, by sensitivity", True, {**scores.cells, **cells}
    )


def _shared(raw: np.ndarray, curve: Curve) -> np.ndarray:
    """A curve's rise, stretch by stretch, shared among the units that go in it, by their saliencies."""
    order = np.argsort(raw, kind="stable")  # the least salient goes first
    points = [*curve.removed, curve.units]
    rises = curve.rise(np.array(points, dtype=float))
    out = np.zeros(len(raw))
    for start, end, low, high in zip(points, points[1:], rises, rises[1:], strict=False):
        if end > start:
            part = order[start:end]
            weights = raw[part] - raw.min() + 1e-12
            out[part] = (high - low) * weights / weights.sum()
    tie = 1e-9 * max(float(out.max()), 1e-12)
    out[order] += tie * np.arange(len(raw))  # flat stretches keep the criterion's order
    return np.maximum.accumulate(out[order])[np.argsort(order)]


def _spread(cells: np.ndarray, aligned: np.ndarray) -> np.ndarray:
    """What the n-th best unit of all contexts together is worth, shared equally: each context keeps its own order."""
    places = np.argsort(np.argsort(-cells, axis=1, kind="stable"), axis=1)
    return np.sort(aligned)[::-1][places] / len(cells)
