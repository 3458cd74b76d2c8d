"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest

from secateur.report.figures import interval, points, quantity, times


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (2.314, "ms", "2.31 ms"),
        (0.631, "ms", "0.631 ms"),
        (0.0042, "ms", "4.20 µs"),
        (12345.0, "ms", "12.3 s"),
        (0.0, "ms", "0 ms"),
        (361_000, "bytes", "0.361 MB"),
        (4_310_000, "bytes", "4.31 MB"),
        (2_500, "bytes", "2.50 kB"),
        (12, "bytes", "12 B"),
        (1_084_586, "params", "1.08 M"),
        (864, "params", "864"),
        (1.24e9, "macs", "1.24 G"),
        (0.478, "x", "0.478×"),
        (0.9717, "share", "97.2 %"),
        (1.0, "share", "100 %"),
        (-0.45, "points", "−0.45"),
        (0.56, "points", "+0.56"),
        (-0.0001, "points", "0.00"),
        (1280, "count", "1\u202f280"),
        (14.6, "s", "14.6 s"),
        (0.8671, "", "0.8671"),
        (None, "ms", "–"),
        (math.nan, "ms", "–"),
        (math.inf, "bytes", "–"),
        (3.1e-7, "", "3.1e−7"),
    ],
)
def test_quantity(value: float | None, unit: str, said: str) -> None:
    assert quantity(value, unit).replace("\u00a0", " ") == said


def test_an_interval_names_a_shared_unit_once() -> None:
    assert interval((1.28, 1.373), "ms").replace("\u00a0", " ") == "1.28 to 1.37 ms"
    assert interval((0.461, 0.497), "x") == "0.461 to 0.497×"
    assert interval((-2.0, 0.5), "points") == "−2.00 to +0.50"
    assert interval(None, "ms") == interval((1.0, None), "ms") == ""


@pytest.mark.parametrize(
    ("ratio", "said"),
    [(0.478, "2.09× faster"), (1.5, "1.50× slower"), (1.001, "as fast"), (0.0, "–"), (None, "–")],
)
def test_times(ratio: float | None, said: str) -> None:
    assert times(ratio, "faster", "slower") == said


def test_points_have_no_sign_and_a_plural() -> None:
    assert [points(v).replace("\u00a0", " ") for v in (1.0, 0.45, -3.0)] == [
        "1 point",
        "0.45 points",
        "3 points",
    ]
