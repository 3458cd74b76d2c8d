"""Numbers that the user's code computes from widths and multiplies with: the root of a head size, above all.

The program holds such a factor as a constant, the class computes it anew. Where the two would differ after the cut,
the weights before take the quotient, in both forms alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import fx

from secateur.coupling import Value
from secateur.graph import Probe, Use, bind, evaluate, leaves, op_name
from secateur.planning import Fold

_CLOSE = 1e-6  # relative: the same number, computed in another order


def folds(probe: Probe, values: Any, value_of: Callable[[Any], Any]) -> Iterator[Fold]:
    """The calls whose constant the class will compute otherwise, with the factor that makes up for it.

    Args:
        probe: of the user's module.
        values: labelled values of the program, by node.
        value_of: attributes and lengths after the cut.
    """
    for use in probe.uses:
        if not isinstance(use.value, float) or use.expression is None:
            continue
        if any(value_of(leaf) is None for leaf in leaves(use.expression)):
            continue
        try:
            now = float(evaluate(use.expression, value_of))
        except (ArithmeticError, ValueError, TypeError):
            continue
        if abs(now - use.value) > _CLOSE * abs(use.value) and now:
            found = _fold(use, now, values)
            if found is not None:
                yield found


def _fold(use: Use, now: float, values: Any) -> Fold | None:
    """``x * c`` is ``(x c / c') * c'``, and ``x / c`` is ``(x c' / c) / c'``."""
    given, kind = bind(use.node), op_name(use.node)
    if kind == "aten::scaled_dot_product_attention":
        return Fold(use.node.name, ("query", "key"), use.value / now, {"scale": now})
    if kind not in ("aten::mul", "aten::mul_", "aten::div", "aten::div_", "aten::true_divide"):
        return None
    tensor = given["self"]
    if not isinstance(tensor, fx.Node) or not isinstance(values.get(tensor), Value):
        return None
    factor = use.value / now if kind.startswith("aten::mul") else now / use.value
    return Fold(use.node.name, ("self",), factor, {"other": now})
