"""The algebra of reshapes, on bare labels: what is split and merged again is the same, and what cannot is pinned."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.coupling import Facts
from secateur.coupling.facts import Axis, refine, segments
from secateur.coupling.solve import Solution, solve


def units(solution: Solution, axis: Axis) -> list[set[int]]:
    """Positions that go with each atom of an axis, largest first."""
    found: dict[int, set[int]] = {}
    for position, label in enumerate(solution.class_of[axis].tolist()):
        for atom in solution.monomial(label):
            found.setdefault(atom, set()).add(position)
    return sorted(found.values(), key=lambda s: (-len(s), sorted(s)))


def sizes(solution: Solution, axis: Axis) -> dict[int, int]:
    """``{positions of a unit: how many such units}``."""
    out: dict[int, int] = {}
    for unit in units(solution, axis):
        out[len(unit)] = out.get(len(unit), 0) + 1
    return out


def test_splitting_and_merging_is_the_same_axis() -> None:
    f = Facts()
    axis = f.fresh(24)
    (heads, inner) = f.split(axis, (4, 6))
    assert f.merge([heads, inner]) is axis
    assert f.split(axis, (4, 6))[0] is heads
    assert len(f.products) == 1


def test_there_and_back_is_the_identity() -> None:
    f = Facts()
    axes = (f.pinned(2), f.fresh(5), f.fresh(24))
    split = f.reshape(axes, (2, 5, 24), (2, 5, 4, 6))
    back = f.reshape(split, (2, 5, 4, 6), (2, 5, 24))
    assert back[1] is axes[1] and back[2] is axes[2]


def test_a_flattened_channel_is_repeated() -> None:
    f = Facts()
    channel = f.fresh(3)
    flat = f.reshape((f.pinned(2), channel, f.pinned(4), f.pinned(4)), (2, 3, 4, 4), (2, 48))[1]
    assert flat.tolist() == np.repeat(channel, 16).tolist()
    assert not f.products or all(len(p.factors) > 1 for p in f.products)


def test_axes_of_size_one_come_and_go() -> None:
    f = Facts()
    axis = f.fresh(6)
    out = f.reshape((f.pinned(1), axis, f.pinned(1)), (1, 6, 1), (6, 1, 1))
    assert out[0] is axis and len(out[1]) == len(out[2]) == 1


def test_finer_splits_refine_coarser_ones() -> None:
    f = Facts()
    axis = f.fresh(24)
    a, _ = f.split(axis, (4, 6))
    b, c, d = f.split(axis, (4, 2, 3))
    assert b is a
    solution = solve(f)
    assert sizes(solution, axis) == {6: 4, 12: 2, 8: 3}
    assert len(c) == 2 and len(d) == 3


def test_nested_splits_have_a_common_refinement() -> None:
    """768 positions as 12 x 64 here and as 3 x 256 there: 3 x 4 x 64, for no stride crosses another."""
    f = Facts()
    axis = f.fresh(768)
    twelve, inner = f.split(axis, (12, 64))
    three, rest = f.split(axis, (3, 256))
    solution = solve(f)
    assert sizes(solution, axis) == {64 * 4: 3, 64 * 3: 4, 12: 64}
    assert sizes(solution, twelve) == {4: 3, 3: 4}
    assert sizes(solution, rest) == {64: 4, 4: 64}
    assert sizes(solution, three) == {1: 3} and sizes(solution, inner) == {1: 64}


def test_splits_that_meet_only_later_are_settled_by_the_solver() -> None:
    """Two axes split apart, then made equal: the solver introduces the refinement."""
    f = Facts()
    one, two = f.fresh(768), f.fresh(768)
    f.split(one, (12, 64))
    f.split(two, (3, 256))
    f.same(one, two)
    solution = solve(f)
    assert sizes(solution, one) == sizes(solution, two) == {64 * 4: 3, 64 * 3: 4, 12: 64}


def test_splits_that_do_not_nest_leave_something_whole() -> None:
    """12 as 3 x 4 and as 4 x 3: the strides 4 and 3 share no refinement; what the solver leaves must be sound."""
    f = Facts()
    axis = f.fresh(12)
    first, second = f.split(axis, (3, 4)), f.split(axis, (4, 3))
    solution = solve(f)
    rng = np.random.default_rng(0)
    for _ in range(20):
        _assert_rectangular(solution, axis, first, second, rng)
    assert any(p.reason.startswith("two operators regroup") for p in f.pins)


def _assert_rectangular(
    solution: Solution, axis: Axis, first: list[Axis], second: list[Axis], rng: np.random.Generator
) -> None:
    """Whatever atoms go, what is left of the axis is a rectangle in both splits."""
    atoms = sorted({a for label in solution.class_of[axis].tolist() for a in solution.monomial(label)})
    dead = {a for a in atoms if rng.random() < 0.4}

    def keep(labels: Axis) -> np.ndarray:
        return np.array([not dead & set(solution.monomial(c)) for c in solution.class_of[labels].tolist()])

    for outer, inner in (first, second):
        expected = np.outer(keep(outer), keep(inner)).reshape(-1)
        assert (keep(axis) == expected).all()


@given(st.integers(2, 4), st.integers(2, 4), st.integers(2, 4), st.data())
def test_any_two_splits_stay_rectangular(a: int, b: int, c: int, data: st.DataObject) -> None:
    n = a * b * c
    divisors = [d for d in range(2, n) if n % d == 0]
    f = Facts()
    axis, other = f.fresh(n), f.fresh(n)
    p, q = data.draw(st.sampled_from(divisors)), data.draw(st.sampled_from(divisors))
    first = f.split(axis, (p, n // p))
    second = f.split(other, (q, n // q))
    f.same(axis, other)
    solution = solve(f)
    rng = np.random.default_rng(n)
    for _ in range(5):
        _assert_rectangular(solution, axis, first, second, rng)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_segments_have_equal_products(source: list[int]) -> None:
    target = [prod(source)]
    for ins, outs in segments(source, target):
        assert prod(source[i] for i in ins) == prod(target[o] for o in outs)


@pytest.mark.parametrize(
    ("first", "second", "nested"),
    [((4, 6), (2, 12), True), ((4, 6), (6, 4), False), ((24,), (2, 3, 4), True), ((2, 9), (6, 3), True)],
)
def test_refine(first: tuple[int, ...], second: tuple[int, ...], nested: bool) -> None:
    found = refine(first, second)
    assert (found is not None) == nested
    if found:
        for sizes_, parts in ((first, found.of_first), (second, found.of_second)):
            assert [prod(p) for p in parts] == list(sizes_)
        assert [n for p in found.of_first for n in p if n > 1] == [
            n for p in found.of_second for n in p if n > 1
        ]
