"""Brings an exported program into the one form that the other rooms expect.

Submodules of ``wrap_with_autocast`` and ``wrap_with_set_grad_enabled`` are inlined, assertions and what nobody
reads are dropped.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from secateur.graph.record import fetch

_ASSERTIONS = ("_assert_tensor_metadata", "_assert_scalar", "_assert_async", "sym_constrain_range")


def op_name(node: fx.Node) -> str:
    """``aten::conv2d`` for an operator of torch's registry, else the Python function's name."""
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        return str(target._schema.name)
    return getattr(target, "__name__", str(target))


def inline_wrappers(module: fx.GraphModule) -> None:
    """Replaces higher-order ``wrap_with_*`` calls by the bodies of their submodules."""
    graph = module.graph
    while wrappers := [n for n in graph.nodes if n.op == "call_function" and op_name(n).startswith("wrap_")]:
        for node in wrappers:
            position = next(
                i for i, a in enumerate(node.args) if isinstance(a, fx.Node) and _is_body(module, a)
            )
            body_node = node.args[position]
            assert isinstance(body_node, fx.Node)
            _inline(module, node, fetch(module, str(body_node.target)), node.args[position + 1 :])
    for node in reversed(list(graph.nodes)):
        if node.op == "get_attr" and not node.users:
            graph.erase_node(node)


def _is_body(module: fx.GraphModule, node: fx.Node) -> bool:
    return node.op == "get_attr" and isinstance(fetch(module, str(node.target)), fx.GraphModule)


def _inline(module: fx.GraphModule, call: fx.Node, body: fx.GraphModule, operands: tuple[Any, ...]) -> None:
    graph, values = module.graph, dict[fx.Node, Any]()
    inputs = iter(operands)
    with graph.inserting_before(call):
        for inner in body.graph.nodes:
            if inner.op == "placeholder":
                values[inner] = next(inputs)
            elif inner.op == "output":
                result = fx.map_arg(inner.args[0], lambda n: values[n])
            else:
                if inner.op == "get_attr":  # nested bodies and constants move up under a name of their own
                    name = f"{call.name}_{str(inner.target).replace('.', '_')}"
                    setattr(module, name, fetch(body, str(inner.target)))
                    new = graph.get_attr(name)
                else:
                    new = graph.node_copy(inner, lambda n: values[n])
                new.meta = dict(inner.meta)
                values[inner] = new
    outputs = list(result) if isinstance(result, (tuple, list)) else [result]
    for user in list(call.users):
        if op_name(user) == "getitem":
            item = user.args[1]
            assert isinstance(item, int)
            user.replace_all_uses_with(outputs[item])
            graph.erase_node(user)
    if call.users:
        call.replace_all_uses_with(outputs[0])
    graph.erase_node(call)


def drop_assertions(module: fx.GraphModule) -> None:
    """Removes shape and type assertions: they hold the sizes before the cut."""
    for node in reversed(list(module.graph.nodes)):
        if node.op == "call_function" and any(word in op_name(node) for word in _ASSERTIONS):
            module.graph.erase_node(node)
        elif node.op == "call_module" and "guards" in str(node.target):
            module.graph.erase_node(node)


def drop_dead(module: fx.GraphModule) -> None:
    """Removes nodes that nobody reads and that change nothing in place."""
    for node in reversed(list(module.graph.nodes)):
        if node.users or node.op in ("placeholder", "output"):
            continue
        schema = getattr(node.target, "_schema", None)
        if node.op == "get_attr" or (schema is not None and not schema.is_mutable):
            module.graph.erase_node(node)
        elif node.op == "call_function" and schema is None:
            module.graph.erase_node(node)
