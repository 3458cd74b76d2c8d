"""The networks that are measured: the dense one, and cuts of it at widths drawn to cover what a plan may ask for.

Shares kept are drawn log-uniformly, group by group, as a Latin hypercube (McKay, Beckman and Conover, 1979): over all
networks, every group meets every part of its range. What times depend on is the shapes, so the weights that are cut do
not matter.
"""

from __future__ import annotations

import numpy as np

from secateur.planning import Problem

LEAST = 0.15  # share of units in the narrowest networks


def draw_widths(problem: Problem, count: int, seed: int = 0) -> list[np.ndarray]:
    """Levels to keep, int64 ``[bundles]``, for so many networks; the first is the dense one."""
    rng = np.random.default_rng(seed)
    cuts = max(1, count - 1)
    strata = (
        np.stack([rng.permutation(cuts) for _ in problem.bundles]) if problem.bundles else np.empty((0, cuts))
    )
    shares = LEAST ** ((strata + rng.random(strata.shape)) / cuts)  # [bundles, cuts]
    networks = [problem.units.copy()]
    for column in shares.T:
        wanted = [
            b.nearest(problem.rounding, s * b.levels) for b, s in zip(problem.bundles, column, strict=True)
        ]
        networks.append(np.clip(np.array(wanted, dtype=np.int64), problem.floors, problem.units))
    return networks[:count]
