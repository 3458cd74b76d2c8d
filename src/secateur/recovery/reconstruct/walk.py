"""A program run on many batches at once, node by node, so that it can be stopped anywhere and gone on with."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from torch import Tensor, fx

from secateur.graph import fetch, hint


class Walk:
    """One program on all batches. Values are let go after their last use, unless somebody holds on to them.

    Args:
        module: the program, in evaluation mode.
        inputs: for each batch, what its placeholders take, in order.
    """

    def __init__(self, module: fx.GraphModule, inputs: Sequence[Sequence[Any]]) -> None:
        self.module, self.values = module, [dict[fx.Node, Any]() for _ in inputs]
        self.pending = iter(module.graph.nodes)
        self.last: dict[fx.Node, list[fx.Node]] = {}
        last: dict[fx.Node, fx.Node] = {}
        for node in module.graph.nodes:
            for used in node.all_input_nodes:
                last[used] = node
        for used, user in last.items():
            self.last.setdefault(user, []).append(used)
        self.placeholders = [iter(values) for values in inputs]
        self.done: set[fx.Node] = set()
        self.held: set[fx.Node] = set()

    def to(self, node: fx.Node) -> None:
        """Goes on until ``node`` has its values."""
        while node not in self.done:
            self._step(next(self.pending))

    def before(self, node: fx.Node) -> None:
        """Goes on until what ``node`` reads has values."""
        for used in node.all_input_nodes:
            self.to(used)

    def let_go(self, node: fx.Node) -> None:
        """Ends holding on to a node; nothing else may read it any more."""
        self.held.discard(node)
        for values in self.values:
            values.pop(node, None)

    def _step(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            for values, given in zip(self.values, self.placeholders, strict=True):
                value = next(given)
                values[node] = value.clone() if isinstance(value, Tensor) else value
        elif node.op == "get_attr":
            for values in self.values:
                values[node] = fetch(self.module, str(node.target))
        elif node.op == "call_function":
            for values in self.values:
                args, kwargs = fx.map_arg((node.args, node.kwargs), values.__getitem__)
                values[node] = node.target(*args, **kwargs)  # type: ignore[operator]
        self.done.add(node)
        for used in self.last.get(node, ()):
            if used not in self.held:
                for values in self.values:
                    values.pop(used, None)


def peak_bytes(module: fx.GraphModule, batch: int) -> int:
    """Most bytes that a sample's values take at one time while the program runs, by its example inputs.

    Args:
        batch: samples in the examples.
    """
    sizes: dict[fx.Node, int] = {}
    uses = {node: len(node.users) for node in module.graph.nodes}
    now = most = 0
    for node in module.graph.nodes:
        value = node.meta.get("val") if node.op in ("placeholder", "call_function") else None
        if isinstance(value, Tensor):
            sizes[node] = prod(hint(s) for s in value.shape) * value.element_size()
        now += sizes.get(node, 0)
        most = max(most, now)
        for used in node.all_input_nodes:
            uses[used] -= 1
            if not uses[used]:
                now -= sizes.get(used, 0)
    return most // batch
