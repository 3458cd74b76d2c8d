"""The outputs of a program, one by one, under the names that the model gives them.

A model returns a tensor, a tuple, a dict, or any nesting of these; the program returns them flat. An output's index is
its place in that flat list, its name the way there: ``"last_hidden_state"``, ``"0"``, ``"features.2"``. The only output
of a model that returns one tensor is called ``"output"``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from secateur.graph.record import Graph, shape_of


@dataclass(frozen=True)
class Output:
    """One tensor that a model returns.

    Args:
        index: its place among all outputs, numbers and None included.
        name: the way to it in what the model returns.
        node: what computes it.
        shape: of it, in the example inputs.
    """

    index: int
    name: str
    node: fx.Node
    shape: tuple[int, ...]


def outputs(graph: Graph) -> tuple[Output, ...]:
    """The tensors that a traced model returns; one that is returned twice is listed twice."""
    (result,) = graph.module.graph.output_node().args
    leaves = list(result) if isinstance(result, (tuple, list)) else [result]
    info = getattr(graph.module.graph._codegen, "pytree_info", None)
    names = list(_names(info.out_spec)) if info is not None and info.out_spec is not None else []
    if len(names) != len(leaves):
        names = [str(i) for i in range(len(leaves))] if len(leaves) > 1 else [""]
    return tuple(
        Output(i, name or "output", leaf, shape_of(leaf))
        for i, (name, leaf) in enumerate(zip(names, leaves, strict=True))
        if isinstance(leaf, fx.Node) and isinstance(leaf.meta.get("val"), Tensor)
    )


def _names(spec: Any, prefix: str = "") -> Iterator[str]:
    """The ways to the leaves of a pytree, in order."""
    children = spec.children() if callable(spec.children) else spec.children
    if spec.is_leaf():
        yield prefix
        return
    keys = getattr(spec.context, "_fields", spec.context)
    if not isinstance(keys, (list, tuple)) or len(keys) != len(children):
        keys = range(len(children))
    for key, child in zip(keys, children, strict=True):
        yield from _names(child, f"{prefix}.{key}" if prefix else str(key))
