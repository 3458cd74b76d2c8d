"""Numbers that the user's code computes from widths and multiplies with: the root of a head size, above all.

The program holds such a factor as a constant, the class computes it anew. Where the two would differ after the cut,
the weights before take the quotient, in both forms alike. Where no weight can take it, and for a number that is
added, say, the widths that it is computed from must stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, fx

from secateur.coupling import Value
from secateur.graph import Graph, Probe, Use, bind, evaluate, leaves, op_name
from secateur.planning import Fold
from secateur.surgery.rescale import Rescale, fold

_CLOSE = 1e-6  # relative: the same number, computed in another order
_ANY = 2.0  # whether weights can take a factor does not depend on how large it is


def folds(probe: Probe, values: Any, value_of: Callable[[Any], Any]) -> Iterator[Fold]:
    """The calls whose constant the class will compute otherwise, with the factor that makes up for it.

    Args:
        probe: of the user's module.
        values: labelled values of the program, by node.
        value_of: attributes and lengths after the cut.
    """
    for use in probe.uses:
        if not isinstance(use.value, float) or use.expression is None or _passes_on(use):
            continue
        if any(value_of(leaf) is None for leaf in leaves(use.expression)):
            continue
        try:
            now = float(evaluate(use.expression, value_of))
        except (ArithmeticError, ValueError, TypeError):
            continue
        if abs(now - use.value) > _CLOSE * abs(use.value) and now:
            found = fold_for(use.node, use.value, now, values)
            if found is not None:
                yield found


def constants(probe: Probe) -> list[Use]:
    """Numbers that are not whole and that the class computes from others."""
    floats = [u for u in probe.uses if isinstance(u.value, float) and any(True for _ in leaves(u.expression))]
    return [use for use in floats if not _passes_on(use)]


def fixed(probe: Probe, graph: Graph, values: Any) -> list[Use]:
    """Those that the class must compute as before, since no weight makes up for another one."""
    asked: dict[fx.Node, tuple[Use, Fold]] = {}
    found = []
    for use in constants(probe):
        fold_of_use = fold_for(use.node, use.value, _ANY * use.value, values) if use.value else None
        if fold_of_use is None:
            found.append(use)
        else:
            asked[use.node] = use, fold_of_use
    wanted = [Rescale(n, f.operands, f.factor, f.arguments) for n, (_, f) in asked.items()]
    refused = fold(graph.module, wanted).refused if wanted else {}
    return found + [asked[node][0] for node in refused]


def _passes_on(use: Use) -> bool:
    """Whether the call gives a tensor of one number again: what that is multiplied with comes later."""
    result = use.node.meta.get("val")
    return isinstance(result, Tensor) and not result.dim()


def fold_for(node: fx.Node, value: float, now: float, values: Any) -> Fold | None:
    """What makes up for a call's number that was ``value`` and is ``now``; None if nothing does.

    ``x * c`` is ``(x c / c') * c'``, and ``x / c`` is ``(x c' / c) / c'``.
    """
    given, kind = bind(node), op_name(node)
    if kind == "aten::scaled_dot_product_attention":
        return Fold(node.name, ("query", "key"), value / now, {"scale": now})
    if kind not in ("aten::mul", "aten::mul_", "aten::div", "aten::div_", "aten::true_divide"):
        return None
    tensor = given["self"]
    if not isinstance(tensor, fx.Node) or not isinstance(values.get(tensor), Value):
        return None
    factor = value / now if kind.startswith("aten::mul") else now / value
    return Fold(node.name, ("self",), factor, {"other": now})
