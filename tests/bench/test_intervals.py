from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.bench import bootstrap_interval, paired_ratio, quantile
from secateur.bench.intervals import median_interval, undisturbed


def test_quantiles_of_a_list_one_can_count() -> None:
    assert quantile([4, 1, 3, 2, 5], 0.5) == 3
    assert quantile(range(101), 0.95) == 95


def test_the_interval_covers_the_true_median_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        low, high = bootstrap_interval(generator.lognormal(size=40), seed=trial, resamples=300)
        hits += low <= 1.0 <= high
    assert 180 <= hits <= 199


def test_the_interval_between_two_samples_covers_the_median_at_least_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        low, high = median_interval(generator.lognormal(size=20))
        hits += low <= 1.0 <= high
    assert 380 <= hits <= 398


def test_the_interval_between_two_samples_by_hand() -> None:
    # Of six samples the median lies outside the extremes with a chance of 2 / 64; of five with 2 / 32.
    assert median_interval([6, 1, 5, 2, 4, 3]) == (1, 6)
    # Of nine, between the second and the eighth: 1 - 2 * (1 + 9) / 512 is 0.961.
    assert median_interval(range(9)) == (1, 7)


def test_windows_are_resampled_whole() -> None:
    generator = np.random.default_rng(0)
    shared = generator.normal(10, 1, size=(20, 1)) + np.zeros((20, 50))  # within a window, nothing varies
    low, high = bootstrap_interval(shared)
    alone_low, alone_high = bootstrap_interval(shared[:, :1])
    assert (low, high) == pytest.approx((alone_low, alone_high), rel=0.05)
    assert high - low > 0.3


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=40), st.floats(0.1, 10), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_intervals_hold_the_median_scale_with_the_times_and_are_reproducible(times, factor, seed) -> None:
    low, high = bootstrap_interval(times, seed=seed)
    assert min(times) <= low <= quantile(times, 0.5) * (1 + 1e-9)
    assert quantile(times, 0.5) <= high * (1 + 1e-9) and high <= max(times)
    assert bootstrap_interval(times, seed=seed) == (low, high)
    scaled = bootstrap_interval([t * factor for t in times], seed=seed)
    assert scaled == pytest.approx((low * factor, high * factor))


def test_a_paired_ratio_does_not_see_what_slows_both() -> None:
    speed = np.random.default_rng(0).uniform(1, 5, size=30)
    ratio, (low, high) = paired_ratio(0.5 * speed, speed)
    assert ratio == low == high == 0.5


def test_spells_are_disturbances_and_lasting_changes_are_not() -> None:
    times = np.array([1.0] * 20 + [3.0, 3.0] + [1.0] * 20 + [2.0] * 40)
    counts = undisturbed(times)
    assert not counts[20:22].any()
    assert counts[:20].all() and counts[22:36].all() and counts[50:].all()
