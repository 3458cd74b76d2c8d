"""The solver's rules, each on the smallest set of facts that fires it."""

from __future__ import annotations

import numpy as np

from secateur.coupling import Axis, Facts
from secateur.coupling.facts import Product
from secateur.coupling.solve import Solution, solve


def classes(solution: Solution, axis: Axis) -> list[int]:
    return solution.class_of[axis].tolist()


def test_no_facts() -> None:
    f = Facts()
    axis = f.fresh(3)
    solution = solve(f)
    assert classes(solution, axis) == axis.tolist()
    assert solution.monomial(int(axis[0])) == (int(axis[0]),)
    assert solution.monomial(0) == ()


def test_equality_is_transitive() -> None:
    f = Facts()
    a, b, c = f.fresh(3), f.fresh(3), f.fresh(3)
    f.same(a, b)
    f.same(b, c)
    solution = solve(f)
    assert classes(solution, a) == classes(solution, c)


def test_a_pin_reaches_all_equal_positions_and_keeps_its_reason() -> None:
    f = Facts()
    a, b = f.fresh(3), f.fresh(3)
    f.same(a, b)
    f.pin(a[:1], "because")
    solution = solve(f)
    assert [c == 0 for c in classes(solution, b)] == [True, False, False]
    assert f.pins[solution.reasons[b[0]]].reason == "because"


def test_meeting_a_pinned_axis_pins() -> None:
    f = Facts()
    a = f.fresh(4)
    assert f.same(a, f.pinned(4)) is f.pinned(4)
    assert classes(solve(f), a) == [0] * 4


def test_a_pinned_product_pins_its_factors() -> None:
    f = Facts()
    whole = f.fresh(6)
    a, b = f.split(whole, (2, 3))
    f.pin(whole[4:5], "one position")  # row 1, column 1
    solution = solve(f)
    assert [c == 0 for c in classes(solution, a)] == [False, True]
    assert [c == 0 for c in classes(solution, b)] == [False, True, False]
    assert f.pins[solution.reasons[b[1]]].reason == "one position"


def test_a_pinned_factor_is_the_identity() -> None:
    f = Facts()
    whole = f.fresh(6)
    a, b = f.split(whole, (2, 3))
    f.pin(a, "fixed")
    solution = solve(f)
    assert classes(solution, whole) == classes(solution, b) * 2


def test_a_factor_that_is_all_one_class_is_pinned() -> None:
    f = Facts()
    a, b = f.fresh(3), f.fresh(4)
    whole = f.merge([a, b])
    f.same(a[:1], a[1:2])
    f.same(a[1:2], a[2:3])
    solution = solve(f)
    assert classes(solution, a) == [0, 0, 0]
    assert classes(solution, whole) == classes(solution, b) * 3


def test_products_of_equal_factors_are_equal() -> None:
    f = Facts()
    one, two = f.fresh(6), f.fresh(6)
    a, b = f.split(one, (2, 3))
    c, d = f.split(two, (2, 3))
    f.same(a, c)
    f.same(b, d)
    solution = solve(f)
    assert classes(solution, one) == classes(solution, two)


def test_equal_products_have_equal_factors() -> None:
    f = Facts()
    one, two = f.fresh(6), f.fresh(6)
    a, b = f.split(one, (2, 3))
    c, d = f.split(two, (2, 3))
    f.same(one, two)
    solution = solve(f)
    assert classes(solution, a) == classes(solution, c)
    assert classes(solution, b) == classes(solution, d)


def test_products_that_agree_are_left_alone_where_others_disagree() -> None:
    """Heads are repeated keys and repeated values, each merged with the batch: three products beside two that clash."""
    f = Facts()
    batch, heads = f.pinned(2), f.fresh(4)
    pairs = [(f.fresh(2), f.fresh(2)) for _ in range(2)]
    for pair in pairs:
        f.merge(pair)
        f.same(f.merge((batch, heads)), f.merge((batch, *pair)))
    solution = solve(f)
    (key, times), (value, again) = ([classes(solution, a) for a in pair] for pair in pairs)
    assert key == value and times == again and all((*key, *times))


def test_a_pinned_factor_does_not_keep_two_products_from_being_made_one() -> None:
    f = Facts()
    batch, heads = f.pinned(2), f.fresh(4)
    (key, times), (value, again) = ((f.fresh(2), f.fresh(2)) for _ in range(2))
    f.same(f.merge((batch, heads)), f.merge((batch, key, times)))
    f.same(heads, f.merge((value, again)))
    solution = solve(f)
    assert classes(solution, key) == classes(solution, value) and all(classes(solution, key))
    assert classes(solution, times) == classes(solution, again) and all(classes(solution, times))


def test_the_order_of_merging_does_not_matter() -> None:
    """(A and M) and B against A and (M and B): comparing pairs would never end."""
    f = Facts()
    a, m, b = f.fresh(2), f.fresh(3), f.fresh(4)
    left = f.fresh(24)
    am, right_b = f.split(left, (6, 4))
    am_a, am_m = f.split(am, (2, 3))
    right = f.fresh(24)
    right_a, mb = f.split(right, (2, 12))
    mb_m, mb_b = f.split(mb, (3, 4))
    for x, y in ((a, am_a), (a, right_a), (m, am_m), (m, mb_m), (b, right_b), (b, mb_b)):
        f.same(x, y)
    solution = solve(f)
    assert classes(solution, left) == classes(solution, right)
    assert len(solution.monomial(classes(solution, left)[0])) == 3


def test_a_swap_of_two_axes_ties_them() -> None:
    """An axis that equals itself with its two factors exchanged: both factors must be the same choice."""
    f = Facts()
    whole = f.fresh(9)
    a, b = f.split(whole, (3, 3))
    f.same(whole, f.merge([b, a]))
    solution = solve(f)
    for i in range(3):
        for j in range(3):
            keep = set(solution.monomial(classes(solution, whole)[3 * i + j]))
            ai, bj = solution.monomial(classes(solution, a)[i]), solution.monomial(classes(solution, b)[j])
            assert keep == {*ai, *bj}
    assert classes(solution, a) == classes(solution, b)


def test_an_axis_that_equals_its_own_copies_fixes_the_copies_alone() -> None:
    """Queries of several heads for each key head, the keys broadcast: ``keep(g) = keep(g) and keep(copy)``."""
    f = Facts()
    heads, copies = f.fresh(3), f.fresh(4)
    f.same(f.merge([heads, copies]), f.merge([heads, f.pinned(4)]))
    solution = solve(f)
    assert classes(solution, copies) == [0] * 4
    assert len(set(classes(solution, heads)) - {0}) == 3


def test_positions_that_imply_each_one_other_become_one() -> None:
    f = Facts()
    a, b = f.fresh(3), f.fresh(3)
    for i in range(3):
        f.products.append(Product(a[i : i + 1], (a[i : i + 1], b[i : i + 1]), None))
    solution = solve(f)
    assert classes(solution, a) == classes(solution, b) and 0 not in classes(solution, a)


def test_every_monomial_is_of_atoms() -> None:
    f = Facts()
    axis = f.fresh(48)
    f.split(axis, (4, 12))
    other = f.fresh(48)
    f.split(other, (2, 2, 3, 4))
    f.same(axis, other)
    solution = solve(f)
    atoms = {a for c in np.unique(solution.class_of).tolist() for a in solution.monomial(c)}
    assert atoms and not atoms & set(solution.monomials)
