"""What a rule sees of a node: its arguments by schema name, tensors as shapes with labelled axes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from secateur.coupling.facts import Axes, Axis
from secateur.graph import bind, hint, op_name


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


def _resolve(value: Any, values: dict[fx.Node, Any]) -> Any:
    if isinstance(value, fx.Node):
        if value in values and values[value] is not None:
            return values[value]
        result = value.meta.get("val")
        return hint(result) if result is not None and not isinstance(result, (Tensor, tuple, list)) else None
    if isinstance(value, (list, tuple)):
        return [_resolve(v, values) for v in value]
    return value


__all__ = ["Arguments", "Value", "bind", "op_name"]
