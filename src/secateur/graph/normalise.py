"""Brings an exported program into the one form that the other rooms expect.

Submodules of ``wrap_with_autocast`` and ``wrap_with_set_grad_enabled`` are inlined, assertions are
dropped, and parts that compute one parameter from others by a norm or a reduction (weight
standardisation, weight norm) are folded into a parameter: their value would change with the cut.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

from secateur.graph.record import fetch

_ASSERTIONS = ("_assert_tensor_metadata", "_assert_scalar", "_assert_async", "sym_constrain_range")

# Operators whose value at the kept positions depends on the removed ones.
_MIXING = frozenset(
    f"aten::{name}"
    for name in (
        "batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "softmax", "log_softmax",
        "_weight_norm", "_weight_norm_interface", "linalg_vector_norm", "norm", "norm_except_dim", "mean",
        "sum", "var", "std", "var_mean", "std_mean", "amax", "amin", "linalg_norm", "mv", "dot",
    )
)  # fmt: skip


def op_name(node: fx.Node) -> str:
    """``aten::conv2d`` for an operator of torch's registry, else the Python function's name."""
    return _target_name(node.target)


@functools.cache
def _target_name(target: Any) -> str:
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


def fold_parameters(module: fx.GraphModule) -> dict[str, tuple[str, ...]]:
    """Computes parameter-only parts that mix positions, once, and stores each as a parameter.

    The result takes the name of the parameter of its own shape where there is just one, and nothing else
    reads that one.

    Returns:
        ``{name of the result: names of the parameters it came from}``.
    """
    sources: dict[fx.Node, tuple[str, ...]] = {}
    mixing: set[fx.Node] = set()
    for node in module.graph.nodes:
        if node.op == "get_attr" and isinstance(fetch(module, str(node.target)), Tensor):
            sources[node] = (str(node.target),)
        elif node.op == "call_function" and node.all_input_nodes:
            inputs = node.all_input_nodes
            if all(i in sources for i in inputs) and isinstance(node.meta.get("val"), (Tensor, tuple, list)):
                sources[node] = tuple(dict.fromkeys(s for i in inputs for s in sources[i]))
                if op_name(node) in _MIXING or any(i in mixing for i in inputs):
                    mixing.add(node)
    folded: dict[str, tuple[str, ...]] = {}
    values = _Constants(module)
    for node in list(module.graph.nodes):
        if node not in mixing or all(user in mixing for user in node.users):
            continue
        with torch.no_grad():
            value = values.of(node).detach().clone()
        same_shape = [s for s in sources[node] if fetch(module, s).shape == value.shape]
        free = len(same_shape) == 1 and _only_for(module, same_shape[0], node, sources)
        name = same_shape[0] if free else f"folded_{len(folded)}"
        learnt = any(isinstance(fetch(module, s), torch.nn.Parameter) for s in sources[node])
        trains = any(fetch(module, s).requires_grad for s in sources[node])
        _assign(module, name, torch.nn.Parameter(value, requires_grad=trains) if learnt else value)
        with module.graph.inserting_before(node):
            new = module.graph.create_node("get_attr", name)
        new.meta = dict(node.meta)
        node.replace_all_uses_with(new)
        folded[name] = sources[node]
    return folded


def _only_for(
    module: fx.GraphModule, name: str, result: fx.Node, sources: Mapping[fx.Node, tuple[str, ...]]
) -> bool:
    """Whether all that reads a parameter goes into ``result``: one that is used elsewhere keeps its value."""
    tensor = fetch(module, name)
    pending = [n for n in module.graph.nodes if n.op == "get_attr" and fetch(module, str(n.target)) is tensor]
    while pending:
        node = pending.pop()
        if node not in sources:
            return False
        if node is not result:
            pending += node.users
    return True


class _Constants:
    """Values of parameter-only nodes, computed on demand."""

    def __init__(self, module: fx.GraphModule) -> None:
        self.module, self.values = module, dict[fx.Node, Any]()
        self.original = {n: fetch(module, str(n.target)) for n in module.graph.nodes if n.op == "get_attr"}

    def of(self, node: fx.Node) -> Any:
        if node in self.original:
            return self.original[node]
        if node not in self.values:
            args = fx.map_arg(node.args, self.of)
            kwargs = fx.map_arg(node.kwargs, self.of)
            assert callable(node.target)
            self.values[node] = node.target(*args, **kwargs)
        return self.values[node]


def _assign(module: torch.nn.Module, target: str, value: Any) -> None:
    *path, leaf = target.split(".")
    owner = fetch(module, ".".join(path)) if path else module
    if leaf in owner._parameters and isinstance(value, torch.nn.Parameter):
        owner._parameters[leaf] = value
    elif leaf in owner._buffers:
        owner._buffers[leaf] = value
    elif isinstance(value, torch.nn.Parameter):
        owner.register_parameter(leaf, value)
    else:
        owner.register_buffer(leaf, value)
