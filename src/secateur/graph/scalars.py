"""Tensors of one number, computed from numbers that remember where they come from.

``torch.sqrt(torch.tensor(x.size(-1)))`` leaves no number behind: what reaches the next operator is a tensor. Its
value is computed again here, with Python numbers that carry the expression.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from secateur.graph.numbers import TracedFloat, TracedInt, real, root

_MAKERS = frozenset(("tensor", "as_tensor", "scalar_tensor"))
_SAME = frozenset(
    ("to", "type", "float", "double", "half", "bfloat16", "type_as", "clone", "detach", "contiguous")
)
_UNARY: dict[str, Callable[[Any], Any]] = {
    "sqrt": root, "rsqrt": lambda x: 1.0 / root(x), "reciprocal": lambda x: 1.0 / x, "neg": operator.neg,
}  # fmt: skip
_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "mul": operator.mul, "multiply": operator.mul, "div": operator.truediv, "divide": operator.truediv,
    "true_divide": operator.truediv, "truediv": operator.truediv, "add": operator.add, "sub": operator.sub,
    "pow": operator.pow,
}  # fmt: skip


def scalar(name: str, args: tuple[Any, ...], known: Callable[[Any], TracedFloat | None]) -> Any:
    """The number that a call's result holds, with its expression; None if it is no such number.

    Args:
        name: of the Python function, ``"sqrt"`` or ``"__rmul__"``.
        args: its positional arguments.
        known: for a tensor, the number that it holds if that is one that remembers.
    """
    plain = name.strip("_")
    reflected = plain.startswith("r") and plain[1:] in _BINARY and plain not in _UNARY
    values = [a if isinstance(a, (int, float)) else known(a) for a in args[:2]]
    try:
        if plain in _MAKERS:
            return real(args[0]) if isinstance(args[0], (TracedInt, TracedFloat)) else None
        if not any(isinstance(v, TracedFloat) for v in values):
            return None
        if plain in _SAME:
            return values[0]
        if plain in _UNARY:
            return _UNARY[plain](values[0])
        operation = _BINARY.get(plain.removeprefix("r") if reflected else plain)
        if operation is None or len(values) < 2 or None in values:
            return None
        found = operation(*(values[::-1] if reflected else values))
    except (ArithmeticError, ValueError, TypeError):
        return None
    return found if isinstance(found, TracedFloat) else None
