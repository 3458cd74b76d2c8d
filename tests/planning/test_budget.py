"""Budgets as users write them."""

from __future__ import annotations

import pytest

from secateur.errors import RecipeError
from secateur.planning import Budget, parse_amount


@pytest.mark.parametrize(
    ("kind", "given", "value", "relative"),
    [
        ("latency", "0.5x", 0.5, True), ("latency", "12ms", 12.0, False), ("latency", "1.5 s", 1500.0, False),
        ("p95", "300us", 0.3, False), ("size", "4MB", 4e6, False), ("size", "0.3x", 0.3, True),
        ("memory", "64mb", 64e6, False), ("params", "0.4x", 0.4, True), ("params", "1.5M", 1.5e6, False),
        ("params", 1000, 1000.0, False), ("macs", "2G", 2e9, False), ("macs", "1e6", 1e6, False),
        ("sparsity", 0.8, 0.8, False), ("drop", "1.0", 1.0, False), ("drop", 0, 0.0, False),
        ("class_drop", "3", 3.0, False), ("macs", "1x", 1.0, True),
    ],
)  # fmt: skip
def test_reads(kind: str, given: str | float, value: float, relative: bool) -> None:
    amount = parse_amount(kind, given)
    assert (amount.value, amount.relative, amount.asked) == (
        pytest.approx(value),
        relative,
        str(given).strip(),
    )
    assert amount.limit(200.0) == pytest.approx(200.0 * value if relative else value)


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        ("latency", "half", "cannot read"), ("latency", "", "cannot read"), ("latency", "x0.5", "cannot read"),
        ("latency", "0.5.5x", "cannot read"), ("latency", "5", "unknown unit ''"),
        ("latency", "5MB", "unknown unit 'MB'"),
        ("size", "4", "unknown unit"), ("macs", "5ms", "unknown unit 'ms'"), ("params", "0x", "positive"),
        ("params", "-0.5x", "positive"), ("params", "1.5x", "more than the dense model"), ("macs", "1e999", "positive"),
        ("macs", "nan", "cannot read"), ("sparsity", "1.0", "below 1"), ("sparsity", "0.5x", "unknown unit 'x'"),
        ("drop", "1x", "unknown unit 'x'"), ("drop", "-1", "positive"), ("params", True, "cannot read"),
    ],
)  # fmt: skip
def test_refuses(kind: str, given: str | float, words: str) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        Budget(**{kind: given})
    assert kind in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.exit_status == 2


def test_amounts_that_were_given() -> None:
    budget = Budget(macs="0.5x", drop=1.0)
    assert [(a.kind, a.value) for a in budget.amounts()] == [("macs", 0.5), ("drop", 1.0)]
    assert budget.get("params") is None
    assert budget.get("macs") == parse_amount("macs", "0.5x")


def test_an_unknown_kind() -> None:
    with pytest.raises(TypeError, match="speed"):
        Budget(speed="2x")  # type: ignore[call-arg]
