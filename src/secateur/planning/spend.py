"""Spends a budget: the widths that keep the most saliency, each judged by what it costs beside the others as they are.

What a channel costs depends on how wide its neighbours are, and where a runtime works in blocks, on whether it opens
another one. So for a price of the budget, every bundle in turn takes the width at which what it keeps, less what that
costs beside the others, is largest (coordinate ascent on the Lagrangian: Everett, Operations Research 11, 1963), until
none moves; and the price is bisected until the budget holds. Several limits share one price, each by how tight it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from secateur.cost import Tally

if TYPE_CHECKING:
    from secateur.planning.allocate import Limit, Problem

SWEEPS = 6
BISECTIONS = 14
REBALANCED = 3


def spend(problem: Problem, limits: Sequence[Limit], steps: np.ndarray) -> np.ndarray | None:
    """Levels to keep, int64 ``[bundles]``, within every limit; None where the floors alone are over one.

    Args:
        problem: bundles, what their levels are worth, and floors.
        limits: what is limited.
        steps: int64 ``[bundles]``, by how many levels each changes.
    """
    shares = np.ones(len(limits)) / len(limits)
    best: np.ndarray | None = None
    for _ in range(REBALANCED if len(limits) > 1 else 1):
        found = _at_best_price(problem, limits, steps, shares)
        if found is not None and (best is None or kept(problem, found) > kept(problem, best)):
            best = found
        if found is None or len(limits) == 1:
            break
        tight = _used(problem, limits, found)
        shares = shares * tight**4 / (shares * tight**4).sum()
    return best


def kept(problem: Problem, widths: np.ndarray) -> float:
    """The saliency that these widths keep."""
    return float(sum(worth[: int(n)].sum() for worth, n in zip(problem.worth, widths, strict=True)))


def _at_best_price(
    problem: Problem, limits: Sequence[Limit], steps: np.ndarray, shares: np.ndarray
) -> np.ndarray | None:
    """The lowest price at which the widths are within every limit, and these."""
    total = kept(problem, problem.units)
    low, high, best = 0.0, 1.0, None
    widths = problem.units.copy()
    for _ in range(BISECTIONS):
        widths = _settled(problem, limits, steps, shares * high * total, widths)
        if (_used(problem, limits, widths) <= 1.0).all():
            best = widths
            break
        if (widths <= problem.floors).all():
            return None
        low, high = high, high * 4.0
    if best is None:
        return None
    for _ in range(BISECTIONS):
        middle = (low * high) ** 0.5 if low > 0 else high / 8.0
        tried = _settled(problem, limits, steps, shares * middle * total, best)
        if (_used(problem, limits, tried) <= 1.0).all():
            high, best = middle, tried if kept(problem, tried) >= kept(problem, best) else best
        else:
            low = middle
        if low > 0 and high / low < 1.02:
            break
    return best


def _settled(
    problem: Problem, limits: Sequence[Limit], steps: np.ndarray, price: np.ndarray, start: np.ndarray
) -> np.ndarray:
    """Widths that no single bundle can better at this price for each limit."""
    widths = start.copy()
    tally = problem.tally(limits)
    tally.start(problem.alive(widths))
    most = np.array([limit.most for limit in limits])
    for _ in range(SWEEPS):
        moved = False
        for i in range(len(widths)):
            better = _best_width(problem, tally, price / most, i, int(widths[i]), int(steps[i]))
            if better != widths[i]:
                _move(problem, tally, i, int(widths[i]), better)
                widths[i], moved = better, True
        if not moved:
            break
    return widths


def _best_width(problem: Problem, tally: Tally, price: np.ndarray, i: int, width: int, step: int) -> int:
    """The width of one bundle, the others as they are."""
    worth = np.concatenate([[0.0], np.cumsum(problem.worth[i])])
    low, high = int(problem.floors[i]), int(problem.units[i])
    rungs = sorted({low, high, width, *range(low + (-low) % step, high, step)})
    here = rungs.index(width)
    value = {width: worth[width] - float(price @ np.array(tally.costs))}
    for direction in (range(here - 1, -1, -1), range(here + 1, len(rungs))):
        last = width
        for place in direction:
            _move(problem, tally, i, last, rungs[place])
            last = rungs[place]
            value[last] = worth[last] - float(price @ np.array(tally.costs))
        _move(problem, tally, i, last, width)
    return max(rungs, key=lambda n: (value[n], n))


def _move(problem: Problem, tally: Tally, i: int, old: int, new: int) -> None:
    """One bundle from one width to another, in the tally."""
    if new < old:
        tally.take(tally.without_atoms(problem.atoms[i][new:old].reshape(-1)))
    elif new > old:
        tally.take(tally.with_atoms(problem.atoms[i][old:new].reshape(-1)))


def _used(problem: Problem, limits: Sequence[Limit], widths: np.ndarray) -> np.ndarray:
    """How much of each limit these widths use."""
    alive = problem.alive(widths)
    return np.array([limit.cost.of(alive) / limit.most for limit in limits])
