"""What a lockstep holds while two programs run: values, arguments of calls, and inputs that tell programs apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from secateur.graph import fetch


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


def last_uses(
    graph: fx.Graph, further: Mapping[fx.Node, fx.Node] | None = None
) -> dict[fx.Node, list[fx.Node]]:
    """For each node the values that nothing reads after it; ``further`` are reads that are no arguments."""
    last: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        for used in node.all_input_nodes:
            last[used] = node
        if further and node in further:
            last[further[node]] = node
    out: dict[fx.Node, list[fx.Node]] = {}
    for used, user in last.items():
        out.setdefault(user, []).append(used)
    return out


def memory_of(module: fx.GraphModule) -> frozenset[int]:
    """Where the tensors that a program reads are stored."""
    found = (fetch(module, str(n.target)) for n in module.graph.find_nodes(op="get_attr"))
    return frozenset(t.untyped_storage().data_ptr() for t in found if isinstance(t, Tensor))


def go_on_from(reference: Any, value: Any, own: frozenset[int]) -> None:
    """Writes the reference's values over those of another program, in the memory that they share with others there.

    Not over the program's ``own`` tensors, or views of them, which are as they should be and may be the user's; and not
    over what an expansion shows many times, whose source was written over before.
    """
    for given, found in zip(pytree.tree_leaves(reference), pytree.tree_leaves(value), strict=True):
        if not isinstance(found, Tensor) or torch.equal(found, given):
            continue
        repeats = any(n > 1 and step == 0 for n, step in zip(found.shape, found.stride(), strict=True))
        if not repeats and found.untyped_storage().data_ptr() not in own:
            found.copy_(given)


def telling(value: Any) -> Any:
    """An input that can tell programs apart: noise in place of constant zeros, which would make any two agree."""
    if not isinstance(value, Tensor) or not value.is_floating_point() or bool(value.any()):
        return value
    generator = torch.Generator().manual_seed(0)
    return torch.randn(value.shape, generator=generator).to(value.device, value.dtype)


EMPTY = frozenset(f"aten::{n}" for n in ("empty", "empty_like", "new_empty"))
