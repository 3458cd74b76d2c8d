"""The statistics of timings: quantiles, bootstrap intervals, paired ratios.

Runs within a window share what the machine did at that moment, so windows, not runs, are resampled: otherwise the
intervals would be too narrow: a seeded bootstrap with percentile intervals (Efron and Tibshirani, An Introduction to
the Bootstrap, chapter 13). Ratios pair windows of the same turn, so that what slows the machine cancels; their
median's interval goes by order statistics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Interval = tuple[float, float]
RESAMPLES = 1000


def quantile(samples: Sequence[float] | np.ndarray, share: float) -> float:
    """The ``share`` quantile, interpolated; 0.5 is the median."""
    return float(np.quantile(np.asarray(samples, dtype=float), share))


def bootstrap_interval(
    windows: Sequence[Sequence[float]] | np.ndarray,
    level: float = 0.95,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Interval of the median of all samples, whole windows resampled.

    Args:
        windows: ``[W, K]``, K samples in each of W windows; ``[W]`` for one sample each.
        level: the share of resampled medians inside.
        seed: makes it reproducible.
        resamples: how many.
    """
    values = np.asarray(windows, dtype=float)
    values = values.reshape(len(values), -1)
    middle = float(np.median(values))
    values = values[:, _spread(values.shape[1])]
    draws = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    medians = np.concatenate(
        [np.median(values[part].reshape(len(part), -1), axis=1) for part in _chunks(draws, values)]
    )
    outside = (1 - level) / 2
    low, high = np.quantile(medians, [outside, 1 - outside])
    # Long windows are thinned out above, so the median of all may lie a hair outside.
    return min(float(low), middle), max(float(high), middle)


def paired_ratio(
    times: Sequence[float], reference: Sequence[float], level: float = 0.95
) -> tuple[float, Interval]:
    """Median over turns of ``times / reference``, and its interval.

    Args:
        times, reference: one time for each turn, of two artifacts measured next to each other.
    """
    ratios = np.asarray(times, dtype=float) / np.asarray(reference, dtype=float)
    return float(np.median(ratios)), median_interval(ratios, level)


def median_interval(samples: Sequence[float] | np.ndarray, level: float = 0.95) -> Interval:
    """Interval of the median between two of the samples, whatever they are drawn from.

    The median lies below the k-th smallest of n samples with the chance that fewer than k of n fair coins show heads
    (Conover, Practical Nonparametric Statistics, section 3.2). Measuring goes on until the interval is narrow, which
    favours samples that happen to lie close together; there this claims half as many gains between copies of one
    artifact as the bootstrap. All of the samples where they are too few for the level.
    """
    ordered = np.sort(np.asarray(samples, dtype=float))
    n, outside = len(ordered), (1 - level) / 2
    rank, chance = 0, 0.5**n
    while chance <= outside:
        rank += 1
        chance += math.comb(n, rank) / 2**n
    rank = max(rank - 1, 0)
    return float(ordered[rank]), float(ordered[n - 1 - rank])


def undisturbed(windows: Sequence[float] | np.ndarray, limit: float = 1.4, span: int = 15) -> np.ndarray:
    """Which windows count: those not slower than ``limit`` times the lower quartile of the ``span`` windows around.

    The quartile moves with the machine, so that a lasting change of speed is no disturbance and a spell is; unlike
    the median, it stands while up to three windows in four are disturbed. Shape ``[W]``, bool.
    """
    values = np.asarray(windows, dtype=float)
    half = span // 2
    around = [np.quantile(values[max(0, i - half) : i + half + 1], 0.25) for i in range(len(values))]
    return np.asarray(values <= limit * np.asarray(around))


def _spread(columns: int, most: int = 32) -> np.ndarray:
    """Evenly spaced columns: medians of very many runs need no more."""
    return np.unique(np.linspace(0, columns - 1, min(columns, most)).round().astype(int))


def _chunks(draws: np.ndarray, values: np.ndarray, budget: int = 4_000_000) -> list[np.ndarray]:
    rows = max(1, budget // max(1, values.size))
    return [draws[start : start + rows] for start in range(0, len(draws), rows)]
