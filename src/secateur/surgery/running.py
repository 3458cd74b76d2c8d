"""What a lockstep holds while two programs run: values, arguments of calls, and inputs that tell programs apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx


class Values(dict[fx.Node, Any]):
    """Values of a program's nodes. Its parameters all stand at the top, and in another precision they would all be
    copied at once: what is not held is read from the program when it is asked for."""

    def __init__(self, read: Callable[[fx.Node], Any]) -> None:
        super().__init__()
        self.read = read

    def __missing__(self, node: fx.Node) -> Any:
        return self.read(node)


def changed(
    node: fx.Node, name: str, args: Any, kwargs: Any, change: Callable[[Any], Any]
) -> tuple[Any, dict[str, Any]]:
    """A call's arguments with one of them changed, found by the operator's schema."""
    names = [a.name for a in node.target._schema.arguments]  # type: ignore[union-attr]
    position = names.index(name) if name in names else len(names)
    if position < len(args):
        return (*args[:position], change(args[position]), *args[position + 1 :]), kwargs
    return args, {**kwargs, name: change(kwargs.get(name))}


def instead(value: Any, _: Any) -> Any:
    """``value``, whatever stood there."""
    return value


def nodes_in(arguments: Any) -> list[fx.Node]:
    """All nodes among some arguments, in order, as often as they stand there."""
    found: list[fx.Node] = []
    fx.map_arg(arguments, found.append)
    return found


def copied(value: Any) -> Any:
    """A tensor of its own, where a program may write to it."""
    return value.clone() if isinstance(value, Tensor) else value


def written(graph: fx.Graph) -> set[fx.Node]:
    """State that the program writes to, directly or through a view: it must not be the user's own."""
    found = set()
    for node in graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if schema is not None and schema.is_mutable:
            while node.op == "call_function" and node.all_input_nodes:
                node = node.all_input_nodes[0]
            found.add(node)
    return found


def telling(value: Any) -> Any:
    """An input that can tell programs apart: noise in place of constant zeros, which would make any two agree."""
    if not isinstance(value, Tensor) or not value.is_floating_point() or bool(value.any()):
        return value
    generator = torch.Generator().manual_seed(0)
    return torch.randn(value.shape, generator=generator).to(value.device, value.dtype)


EMPTY = frozenset(f"aten::{n}" for n in ("empty", "empty_like", "new_empty"))
