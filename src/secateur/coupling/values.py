"""What a rule sees of a node: its arguments by schema name, tensors as shapes with labelled axes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from secateur.coupling.facts import Axes, Axis
from secateur.graph import bind, fetch, hint, op_name


@dataclass(frozen=True)
class Value:
    """A tensor in the program: shape ``[...]`` in the example inputs and labels for every axis."""

    axes: Axes
    shape: tuple[int, ...]
    node: fx.Node

    def __len__(self) -> int:
        return len(self.shape)

    def __getitem__(self, axis: int) -> Axis:
        return self.axes[axis]


class Arguments:
    """A call's arguments by name, defaults filled in, tensors as :class:`Value`, symbolic sizes as hints.

    ``a.input`` raises ``AttributeError`` for a name that the operator does not have; ``a.get`` gives a default.
    """

    def __init__(self, node: fx.Node, values: dict[fx.Node, Any]) -> None:
        self.node = node
        self.given = bind(node)
        self.values = {name: _resolve(value, values) for name, value in self.given.items()}

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["values"][name]
        except KeyError:
            raise AttributeError(name) from None

    def get(self, name: str, default: Any = None) -> Any:
        """The argument called ``name``, or a default where the operator has none of that name."""
        return self.values.get(name, default)

    def operands(self) -> Iterator[tuple[str, Value]]:
        """Names and values of all tensor arguments, lists flattened."""
        for name, value in self.values.items():
            for item in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(item, Value):
                    yield name, item

    @property
    def outputs(self) -> list[tuple[int, ...]]:
        """Shapes of the outputs; one for an operator with a single output."""
        result = self.node.meta["val"]
        items = result if isinstance(result, (tuple, list)) else [result]
        return [tuple(hint(s) for s in t.shape) if isinstance(t, Tensor) else () for t in items]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the (first) output."""
        return self.outputs[0]

    def dim(self, value: Value, name: str = "dim") -> int:
        """The non-negative axis that the argument ``name`` denotes on ``value``."""
        return int(self.values[name]) % max(len(value), 1)


LITERAL = "lifted_tensor_"
"""How the exporter names constants that stand in the code itself, such as the list in ``x[:, [0, 2]]``."""

_COPIES = (
    "aten::lift_fresh_copy",
    "aten::lift_fresh",
    "aten::detach",
    "aten::detach_",
    "aten::clone",
    "aten::to",
)


def literal_indices(node: fx.Node, size: int) -> tuple[int, np.ndarray] | None:
    """The axis and the positions, counted from zero, that a call takes of its tensor by a list in the code itself.

    None if it takes them by anything else: a tensor of the model or the inputs, a mask, several lists, a table.
    """
    given = bind(node)
    if "index" in given:
        dim, source = int(given["dim"]), given["index"]
    else:
        lists = [(i, x) for i, x in enumerate(given["indices"]) if x is not None]
        if len(lists) != 1:
            return None
        dim, source = lists[0]
    while isinstance(source, fx.Node) and source.op == "call_function" and op_name(source) in _COPIES:
        source = source.args[0]
    if not isinstance(source, fx.Node) or source.op != "get_attr":
        return None
    module = node.graph.owning_module
    if module is None or not str(source.target).rpartition(".")[2].startswith(LITERAL):
        return None
    value = fetch(module, str(source.target))
    if value.is_meta or value.dim() != 1 or value.dtype not in (torch.int64, torch.int32):
        return None
    return dim, value.cpu().numpy() % size


def _resolve(value: Any, values: dict[fx.Node, Any]) -> Any:
    if isinstance(value, fx.Node):
        if value in values and values[value] is not None:
            return values[value]
        result = value.meta.get("val")
        return hint(result) if result is not None and not isinstance(result, (Tensor, tuple, list)) else None
    if isinstance(value, (list, tuple)):
        return [_resolve(v, values) for v in value]
    return value


__all__ = ["LITERAL", "Arguments", "Value", "bind", "literal_indices", "op_name"]
