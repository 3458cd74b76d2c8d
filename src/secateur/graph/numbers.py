"""Numbers that remember where they come from.

While a model is traced once more, its integer attributes and the sizes of its tensors are replaced by subclasses of
``int`` that carry an expression: the attribute, the axis, and the arithmetic done since. What reaches an operator
as an argument can then be computed again for other attributes and sizes.
"""

from __future__ import annotations

import contextlib
import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Attribute:
    """An integer held by a module: ``keys`` lead to it from the module's own attributes.

    Args:
        module: path of the module in the model.
        keys: names of attributes and indices of containers, ``("split_sizes", 0)``.
    """

    module: str
    keys: tuple[str | int, ...]

    def __str__(self) -> str:
        words = ".".join(str(k) for k in self.keys)
        return f"{self.module}.{words}" if self.module else words


@dataclass(frozen=True)
class Length:
    """The size of one axis of a value: of the tensor ``value`` names (a call's output, or a parameter)."""

    value: Any
    axis: int


@dataclass(frozen=True)
class Compound:
    """Arithmetic on expressions and plain numbers."""

    operation: str
    operands: tuple[Any, ...]


Expression = Attribute | Length | Compound

_OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "floordiv": operator.floordiv,
    "truediv": operator.truediv, "mod": operator.mod, "pow": operator.pow, "neg": operator.neg,
    "sqrt": math.sqrt, "float": float, "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le,
    "gt": operator.gt, "ge": operator.ge,
}  # fmt: skip


_SYMBOLIC = (torch.SymInt, torch.SymFloat)
"""Numbers of the exporter's, which know plain numbers only."""

_watched: list[dict[Compound, bool]] = []


@contextlib.contextmanager
def watched_comparisons() -> Iterator[dict[Compound, bool]]:
    """Comparisons of numbers that carry an expression, and how they came out: the code may take its way by them."""
    seen: dict[Compound, bool] = {}
    _watched.append(seen)
    try:
        yield seen
    finally:
        _watched.remove(seen)


def leaves(expression: Any) -> Iterator[Attribute | Length]:
    """The attributes and lengths that an expression is made of."""
    if isinstance(expression, Compound):
        for operand in expression.operands:
            yield from leaves(operand)
    elif isinstance(expression, (Attribute, Length)):
        yield expression


def evaluate(expression: Any, value_of: Callable[[Attribute | Length], Any]) -> Any:
    """The expression's value when attributes and lengths have the values that ``value_of`` gives.

    Raises:
        ArithmeticError: a division by zero.
    """
    if isinstance(expression, Compound):
        operands = [evaluate(o, value_of) for o in expression.operands]
        return _OPERATIONS[expression.operation](*operands)
    if isinstance(expression, (Attribute, Length)):
        return value_of(expression)
    return expression


def expression_of(value: Any) -> Any:
    """What a number carries; the number itself if nothing."""
    return value.expression if isinstance(value, (TracedInt, TracedFloat)) else value


class TracedInt(int):
    """An ``int`` with its expression."""

    expression: Expression

    def __new__(cls, value: int, expression: Expression) -> TracedInt:
        self = int.__new__(cls, value)
        self.expression = expression
        return self

    def __deepcopy__(self, memo: Any) -> TracedInt:
        return self

    __hash__ = int.__hash__


class TracedFloat(float):
    """A ``float`` with its expression."""

    expression: Expression

    def __new__(cls, value: float, expression: Expression) -> TracedFloat:
        self = float.__new__(cls, value)
        self.expression = expression
        return self

    def __deepcopy__(self, memo: Any) -> TracedFloat:
        return self

    __hash__ = float.__hash__


def traced(value: Any, expression: Expression) -> Any:
    """``value`` with an expression, where it is a plain number."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return TracedInt(value, expression)
    return TracedFloat(value, expression) if isinstance(value, float) else value


def root(value: Any) -> Any:
    """``math.sqrt`` that keeps the expression."""
    if isinstance(value, (TracedInt, TracedFloat)):
        return traced(_plain_root(value), Compound("sqrt", (value.expression,)))
    return _plain_root(value)


def real(value: Any = 0.0) -> Any:
    """``float`` that keeps the expression."""
    if isinstance(value, (TracedInt, TracedFloat)):
        return traced(float(value), Compound("float", (value.expression,)))
    return float(value)


_plain_root = math.sqrt


def _define(base: type, kind: type) -> None:
    """Gives a traced number class its arithmetic."""

    def binary(name: str, reflected: bool) -> Callable[[Any, Any], Any]:
        plain = getattr(base, f"__{'r' if reflected else ''}{name}__")

        def method(self: Any, other: Any) -> Any:
            value = plain(self, other)
            if value is NotImplemented and base is int and isinstance(other, float):
                value = getattr(float(self), f"__{'r' if reflected else ''}{name}__")(other)
            if value is NotImplemented and isinstance(other, _SYMBOLIC):
                pair = (base(self), other)
                return _OPERATIONS[name](*(pair[::-1] if reflected else pair))
            if value is NotImplemented or not isinstance(value, (int, float)):
                return value
            pair = (expression_of(self), expression_of(other))
            return traced(value, Compound(name, pair[::-1] if reflected else pair))

        return method

    def compared(name: str) -> Callable[[Any, Any], Any]:
        plain = getattr(base, f"__{name}__")

        def method(self: Any, other: Any) -> Any:
            outcome = plain(self, other)
            if outcome is NotImplemented and isinstance(other, _SYMBOLIC):
                return _OPERATIONS[name](base(self), other)
            if _watched and isinstance(outcome, bool):
                _watched[-1][Compound(name, (expression_of(self), expression_of(other)))] = outcome
            return outcome

        return method

    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        setattr(kind, f"__{name}__", compared(name))
    for name in ("add", "sub", "mul", "floordiv", "truediv", "mod", "pow"):
        setattr(kind, f"__{name}__", binary(name, False))
        setattr(kind, f"__r{name}__", binary(name, True))

    def negated(self: Any) -> Any:
        return traced(-base(self), Compound("neg", (self.expression,)))

    setattr(kind, "__neg__", negated)  # noqa: B010


_define(int, TracedInt)
_define(float, TracedFloat)
