"""Scales on their way through a program: where a factor on one operand passes to the result.

A *field* holds, for each position of a value, the factor by which it differs from the original. One table says
which operands must carry a factor together so that the result does (an addition: both; a product: either one).
:func:`backward` asks which positions of the operands a result needs, :func:`forward` pushes fields through a call.
Both work on the example inputs' shapes alone. Operators that are not in the table let no factor through.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

from secateur.coupling import bind
from secateur.graph import fetch, hint, op_name

TOLERANCE = 1e-9

Fields = Mapping[fx.Node, Any]
"""float64 tensors, or tuples of them for several outputs; what has none is as it was."""


class NotCarried(Exception):
    """A factor reaches an operator through which it does not pass."""


_MOVES = frozenset((
    "view", "reshape", "_unsafe_view", "flatten", "unflatten", "permute", "transpose", "t", "swapaxes", "swapdims",
    "mT", "numpy_T", "movedim", "moveaxis", "squeeze", "unsqueeze", "expand", "broadcast_to", "repeat", "tile",
    "repeat_interleave", "slice", "narrow", "select", "split", "split_with_sizes", "chunk", "tensor_split",
    "unsafe_chunk", "unsafe_split", "unbind", "flip", "roll", "index_select", "index", "mean",
))  # fmt: skip
_ALIKE = frozenset((
    "to", "_to_copy", "type_as", "float", "contiguous", "clone", "alias", "detach", "lift_fresh_copy", "positive",
    "neg", "neg_", "dropout", "dropout_", "getitem",
))  # fmt: skip
_SUMS = frozenset(("add", "add_", "sub", "sub_", "subtract"))
_JOINS = frozenset(("cat", "concat", "concatenate", "stack"))
_FACTORS = frozenset(("mul", "mul_", "multiply"))
_QUOTIENTS = frozenset(("div", "div_", "divide", "true_divide"))
_CONVOLUTIONS = frozenset(("conv1d", "conv2d", "conv3d"))
_PRODUCTS: Mapping[str, tuple[str, str, str]] = {
    "linear": ("input", "weight", "bias"),
    "addmm": ("mat1", "mat2", "self"),
    "baddbmm": ("batch1", "batch2", "self"),
    "matmul": ("self", "other", ""),
    **dict.fromkeys(("mm", "bmm"), ("self", "mat2", "")),
    **dict.fromkeys(_CONVOLUTIONS, ("input", "weight", "bias")),
}
_NORMS = frozenset(("layer_norm", "rms_norm", "group_norm", "batch_norm", "instance_norm"))
_CHANNEL_FIRST = _CONVOLUTIONS | {"group_norm", "batch_norm", "instance_norm"}


def _name(node: fx.Node) -> str:
    return op_name(node).removeprefix("aten::")


def shape(node: fx.Node) -> tuple[int, ...]:
    """The shape of a tensor in the example inputs."""
    return tuple(hint(s) for s in node.meta["val"].shape)


def operands(node: fx.Node, *names: str) -> list[fx.Node]:
    """The tensors given for these arguments; those of a list one by one."""
    given = bind(node)
    listed = [given.get(n) for n in names]
    flat = [x for item in listed for x in (item if isinstance(item, (list, tuple)) else [item])]
    return [n for n in flat if isinstance(n, fx.Node) and isinstance(n.meta.get("val"), Tensor)]


def alternatives(node: fx.Node) -> list[list[fx.Node]]:
    """Sets of operands: the result carries a factor if all of one set do and nothing else does.

    A layer's weight comes before its input: the nearest writer is the one to scale.
    """
    name = _name(node)
    if name in _MOVES | _ALIKE:
        return [node.all_input_nodes[:1]]
    if name in _SUMS:  # a number that is added keeps no factor
        both = operands(node, "self", "other")
        return [list(dict.fromkeys(both))] if len(both) == 2 else []
    if name in _JOINS:
        return [operands(node, "tensors")]
    if name in _FACTORS:
        return [[n] for n in operands(node, "self", "other")]
    if name in _QUOTIENTS:
        return [operands(node, "self")]
    if name in _PRODUCTS:
        left, right, bias = _PRODUCTS[name]
        found = [operands(node, right, bias), operands(node, left, bias)]
        if name in _CONVOLUTIONS:
            return found[:1]
        return found if bias else found[::-1]
    if name in _NORMS:
        return [operands(node, "weight", "bias")] if operands(node, "weight") else []
    return [operands(node, "weight")] if name == "embedding" else []


def backward(node: fx.Node, wanted: Any, chosen: list[fx.Node]) -> dict[fx.Node, Any]:
    """Which positions of the chosen operands make up the wanted ones of the result, as bool tensors."""
    name = _name(node)
    if name == "getitem":
        parent, item = node.args
        assert isinstance(parent, fx.Node) and isinstance(item, int)
        return {parent: {item: wanted}}
    if name in _MOVES | _JOINS:
        return _gradient(node, wanted, chosen)
    if name in _PRODUCTS or name in _NORMS or name == "embedding":
        return {n: _written(node, name, wanted, n) for n in chosen}
    return {n: _summed(wanted, shape(n)) for n in chosen}


def _summed(wanted: Tensor, size: tuple[int, ...]) -> Tensor:
    """Positions of a broadcast operand."""
    return wanted.double().sum_to_size(size) > 0


def _gradient(node: fx.Node, wanted: Any, chosen: list[fx.Node]) -> dict[fx.Node, Any]:
    """Of operators that only move values: the gradient of the wanted positions is not zero at what they come from."""
    leaves = {n: torch.ones(shape(n), dtype=torch.float64, requires_grad=True) for n in chosen}
    with torch.enable_grad():
        result = run(node, leaves)
        parts = wanted.items() if isinstance(wanted, dict) else [(None, wanted)]
        total = sum((result if i is None else result[i]).mul(w).sum() for i, w in parts)
    found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    return {
        n: torch.zeros(shape(n), dtype=torch.bool) if g is None else g != 0
        for n, g in zip(leaves, found, strict=True)
    }


def _written(node: fx.Node, name: str, wanted: Tensor, operand: fx.Node) -> Tensor:
    """Of a layer: all that goes into the wanted columns (channels, features)."""
    size = shape(operand)
    if name in ("layer_norm", "rms_norm"):
        return wanted.reshape(-1, *size).any(dim=0)
    left, right, _ = _PRODUCTS.get(name, ("", "weight", "bias"))
    if operand in operands(node, left):
        rows = wanted.any(dim=-1, keepdim=True)
        return _summed(rows.expand(*rows.shape[:-1], size[-1]), size)
    axis = 1 if name in _CHANNEL_FIRST else wanted.dim() - 1
    columns = wanted.movedim(axis, -1).reshape(-1, wanted.shape[axis]).any(dim=0)
    if operand in operands(node, right) and (name == "linear" or name in _CONVOLUTIONS):
        return columns.reshape(-1, *[1] * (len(size) - 1)).expand(size)
    return columns.expand(size)


def forward(node: fx.Node, fields: Fields) -> Any:
    """The field of a call's result from those of its operands; None if it is as it was.

    Raises:
        NotCarried: the result would differ in another way than by a factor for each position.
    """
    name = _name(node)
    schema = getattr(node.target, "_schema", None)
    if schema is not None and schema.is_mutable and len(node.all_input_nodes[0].users) > 1:
        raise NotCarried  # what reads the value that is written over cannot be told apart here
    if name == "getitem":
        return fields[node.args[0]][node.args[1]]  # type: ignore[index]
    if name in _ALIKE:
        return fields.get(node.all_input_nodes[0])
    if name in _MOVES | _JOINS:
        return run(node, fields)
    if name in _SUMS and len(operands(node, "self", "other")) == 2:
        return _equal(*(_field(n, fields) for n in operands(node, "self", "other")))
    if name in _FACTORS | _QUOTIENTS:
        left, *right = (_field(n, fields) for n in operands(node, "self", "other"))
        factor = right[0] if right else torch.ones((), dtype=torch.float64)
        return left * factor if name in _FACTORS else left / factor
    if name in _PRODUCTS:
        return _product(node, name, fields)
    if name in _NORMS or name == "embedding":
        return _affine(node, name, fields)
    raise NotCarried


def _field(node: fx.Node, fields: Fields) -> Tensor:
    found: Tensor | None = fields.get(node)
    return torch.ones(shape(node), dtype=torch.float64) if found is None else found


def _equal(left: Tensor, right: Tensor) -> Tensor:
    left, right = torch.broadcast_tensors(left, right)
    if not torch.allclose(left, right, rtol=TOLERANCE, atol=0.0):
        raise NotCarried
    return left


def _one(field: Tensor, *axes: int) -> Tensor:
    """The field with axes along which it does not change shrunk to one position."""
    for axis in axes:
        first = field.narrow(axis, 0, 1)
        _equal(field, first)
        field = first
    return field


def _product(node: fx.Node, name: str, fields: Fields) -> Tensor:
    """Every term of the sum must have one factor: no field may change along what is summed over."""
    first, second, bias = _PRODUCTS[name]
    (left,), (right,), added = (operands(node, x) for x in (first, second, bias))
    size = shape(node)
    result = torch.ones((), dtype=torch.float64)
    if left in fields:
        if name in _CONVOLUTIONS or len(shape(right)) < 2:
            raise NotCarried
        result = result * _one(fields[left], -1)
    if right in fields:
        field = fields[right]
        if name == "linear" or name in _CONVOLUTIONS:
            column = _one(field, *range(1, field.dim())).reshape(-1)
            result = result * _along(column, name, size)
        elif field.dim() < 2 or len(shape(left)) < 2:
            raise NotCarried
        else:
            result = result * _one(field, -2)
    for other in added:
        given = _field(other, fields)
        result = _equal(result.expand(size), _along(given, name, size) if given.dim() == 1 else given)
    return result.expand(size)


def _affine(node: fx.Node, name: str, fields: Fields) -> Tensor:
    """Norms and embeddings: what they multiply by, or look up."""
    written = operands(node, "weight", "bias")
    if any(n in fields for n in node.all_input_nodes if n not in written):
        raise NotCarried
    found = [_field(n, fields) for n in written]
    if name == "embedding":
        return _one(found[0], 0)[0].expand(shape(node))
    for other in found[1:]:
        _equal(found[0], other)
    return _along(found[0], name, shape(node)).expand(shape(node))


def _along(vector: Tensor, name: str, size: tuple[int, ...]) -> Tensor:
    """A vector for the channels or the features of a result."""
    return vector.reshape(-1, *[1] * (len(size) - 2)) if name in _CHANNEL_FIRST else vector


def _constant(node: fx.Node) -> Tensor:
    """Indices that the program holds.

    Raises:
        NotCarried: they follow from the inputs.
    """
    if node.op == "get_attr" and node.graph.owning_module is not None:
        return fetch(node.graph.owning_module, str(node.target)).cpu()
    if node.op != "call_function" or not node.all_input_nodes or not callable(node.target):
        raise NotCarried
    return node.target(*fx.map_arg(node.args, _constant), **fx.map_arg(node.kwargs, _constant))


def run(node: fx.Node, given: Fields) -> Any:
    """Runs a call on stand-ins: what is given, ones for other floats, indices as they are, hints for sizes."""

    def value(n: fx.Node) -> Any:
        held = n.meta.get("val")
        if n in given:
            return given[n]
        if isinstance(held, Tensor):
            return torch.ones(shape(n), dtype=torch.float64) if held.is_floating_point() else _constant(n)
        if isinstance(held, torch.SymInt):
            return hint(held)
        if n.op == "call_function" and callable(n.target):
            return n.target(*fx.map_arg(n.args, value), **fx.map_arg(n.kwargs, value))
        return False  # the mode: evaluation

    # Stand-ins are expanded, so that a view of them may need a copy.
    views = (torch.ops.aten.view.default, torch.ops.aten._unsafe_view.default)
    target = torch.ops.aten.reshape.default if node.target in views else node.target
    assert callable(target)
    return target(*fx.map_arg(node.args, value), **fx.map_arg(node.kwargs, value))
