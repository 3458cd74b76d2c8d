"""Friendly widths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.coupling import Group, Member
from secateur.planning import Rounding


def group(units: int, taken: int = 1) -> Group:
    positions = np.arange(units * taken).reshape(units, taken)
    return Group("w:0", np.arange(1, units + 1), (Member("w", 0, positions),))


@pytest.mark.parametrize(
    ("units", "taken", "step"),
    [
        (64, 1, 8),
        (16, 1, 8),
        (15, 1, 4),
        (8, 1, 4),
        (4, 1, 2),
        (3, 1, 1),
        (1, 1, 1),
        (12, 64, 1),
        (32, 4, 2),
        (32, 3, 8),
    ],
)
def test_steps(units: int, taken: int, step: int) -> None:
    assert Rounding().step(group(units, taken)) == step


@pytest.mark.parametrize(
    ("wanted", "kept"), [(0, 8), (3, 8), (12, 16), (11.9, 8), (20, 24), (63, 64), (64, 64), (90, 64)]
)
def test_nearest(wanted: float, kept: int) -> None:
    assert Rounding().nearest(group(64), wanted) == kept


def test_a_width_that_is_no_multiple_may_stay_whole() -> None:
    assert Rounding().nearest(group(60), 60) == 60
    assert Rounding().nearest(group(60), 59.9) == 56


@given(st.integers(1, 200), st.integers(1, 70), st.floats(0, 1), st.sampled_from([1, 2, 4, 8, 16, 32]))
def test_never_nothing_never_more(units: int, taken: int, share: float, multiple: int) -> None:
    rounding, g = Rounding(multiple), group(units, taken)
    kept = rounding.nearest(g, share * units)
    assert 1 <= kept <= units
    assert kept == units or kept % rounding.step(g) == 0
    assert abs(kept - share * units) <= rounding.step(g)
