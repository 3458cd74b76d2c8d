"""Multiply-adds of one sample: of convolutions, linear and recurrent layers, matrix products and attention."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import prod
from typing import Any

from torch import fx

from secateur.cost.record import Cost, Term
from secateur.coupling import Axis, Groups, Value, bind
from secateur.graph import op_name

Arguments = dict[str, Any]


def _linear(a: Arguments, out: Value) -> list[tuple[Axis, ...]]:
    return [(*out.axes, a["weight"][1])]


def _convolution(a: Arguments, out: Value) -> list[tuple[Axis, ...]]:
    return [(*out.axes, *a["weight"].axes[1:])]


def _transposed(a: Arguments, out: Value) -> list[tuple[Axis, ...]]:
    return [(*a["input"].axes, *a["weight"].axes[1:])]


def _product(a: Arguments, out: Value) -> list[tuple[Axis, ...]]:
    left = next(a[k] for k in ("batch1", "mat1", "self") if isinstance(a.get(k), Value))
    return [(*out.axes, left[-1])]


def _einsum(a: Arguments, out: Value) -> list[tuple[Axis, ...]]:
    terms, arrow, result = a["equation"].replace(" ", "").partition("->")
    if not arrow:  # letters that stand once are the result
        result = "".join(c for c in terms if terms.count(c) == 1)
    summed = {}
    for term, value in zip(terms.split(","), a["tensors"], strict=True):
        for letter, axis in zip(term.replace("...", "")[::-1], value.axes[::-1], strict=False):
            if letter not in result:
                summed[letter] = axis
    return [(*out.axes, *summed.values())]


def _tensordot(a: Arguments, out: Value) -> list[tuple[Axis, ...]]:
    return [(*out.axes, *(a["self"][d] for d in a["dims_self"]))]


def _bilinear(a: Arguments, out: Value) -> list[tuple[Axis, ...]]:
    return [(*out.axes, *a["weight"].axes[1:])]


def _recurrent(a: Arguments, out: Value) -> list[tuple[Axis, ...]]:
    steps = a["input"].axes[:-1]
    return [(*steps, *w.axes) for w in a["params"] if len(w) == 2]


def _attention(a: Arguments, out: Value) -> list[tuple[Axis, ...]]:
    rows, keys = out.axes[:-1], a["key"][-2]
    return [(*rows, keys, a["query"][-1]), (*rows, keys, out[-1])]


Count = Callable[[Arguments, Value], list[tuple[Axis, ...]]]

COUNTED: Mapping[str, Count] = {
    "aten::linear": _linear,
    **dict.fromkeys(("aten::conv1d", "aten::conv2d", "aten::conv3d", "aten::convolution"), _convolution),
    **dict.fromkeys(
        ("aten::conv_transpose1d", "aten::conv_transpose2d", "aten::conv_transpose3d"), _transposed
    ),
    **dict.fromkeys(
        (
            "aten::matmul",
            "aten::mm",
            "aten::bmm",
            "aten::mv",
            "aten::dot",
            "aten::addmm",
            "aten::baddbmm",
            "aten::__matmul__",
        ),
        _product,
    ),
    "aten::einsum": _einsum,
    "aten::tensordot": _tensordot,
    "aten::bilinear": _bilinear,
    **dict.fromkeys(("aten::lstm", "aten::gru", "aten::rnn_tanh", "aten::rnn_relu"), _recurrent),
    "aten::scaled_dot_product_attention": _attention,
}
"""For each operator, the axes whose lengths multiply to its multiply-adds."""


class Macs(Cost):
    """Multiply-adds of one sample."""

    kind = "macs"

    def terms(self, groups: Groups) -> list[Term]:
        """One term for each product of axes; its layer is the module that computes it."""
        values = groups.coupling.values
        out = []
        for node in groups.graph.nodes:
            count = _count(node, groups)
            if count is None:
                continue
            result = values[node][0] if isinstance(values[node], list) else values[node]
            if isinstance(result, Value):
                arguments = {k: _resolve(v, values) for k, v in bind(node).items()}
                for axes in count(arguments, result):
                    free = tuple(a for a in axes if a.any())
                    fixed = prod(len(a) for a in axes if not a.any())
                    out.append(Term(layer_of(node), fixed / _batch(groups), free))
        return out


def _count(node: fx.Node, groups: Groups) -> Count | None:
    taught = groups.coupling.operators.get(op_name(node)) if node.op == "call_function" else None
    if taught is not None and taught.macs is not None:
        return taught.macs
    return COUNTED.get(op_name(node)) if node.op == "call_function" else None


def layer_of(node: fx.Node) -> str:
    """The layer that a call belongs to: that of its weight, else the module that made it, else the node."""
    for name in ("weight", "mat2"):
        weight = bind(node).get(name)
        if isinstance(weight, fx.Node) and weight.op == "get_attr":
            return str(weight.target).rpartition(".")[0] or str(weight.target)
    stack = node.meta.get("nn_module_stack") or {}
    path = list(stack.values())[-1][0] if stack else ""
    return path or node.name


def _batch(groups: Groups) -> int:
    return max(groups.graph.batch, 1)


def _resolve(value: Any, values: Mapping[fx.Node, Any]) -> Any:
    if isinstance(value, fx.Node):
        return values.get(value)
    if isinstance(value, (list, tuple)):
        return [_resolve(v, values) for v in value]
    return value


def modules_with_weights(nodes: Iterable[fx.Node]) -> list[str]:
    """Names of weights of convolutions and linear layers, in the order of execution."""
    out = []
    for node in nodes:
        if node.op == "call_function" and op_name(node) in COUNTED:
            weight = bind(node).get("weight")
            if isinstance(weight, fx.Node) and weight.op == "get_attr":
                out.append(str(weight.target))
    return out
