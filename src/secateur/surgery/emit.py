"""Writes the smaller program: sliced tensors under their original names, sizes rewritten.

The original program and its tensors are only read; every tensor of the result is a copy.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from secateur.coupling import Groups, Value
from secateur.graph import fetch, op_name
from secateur.surgery.rewrites import Call, rewrite_of
from secateur.surgery.sizes import Sizes


@dataclass(frozen=True)
class Emitted:
    """A cut program and where each original node went."""

    module: fx.GraphModule
    nodes: dict[fx.Node, fx.Node]
    sizes: Sizes


def emit(groups: Groups, sizes: Sizes) -> Emitted:
    """Builds the program that computes only what ``sizes`` keeps."""
    old = groups.graph.module
    state: dict[str, Any] = {}
    nodes = rewrite(groups, sizes, state)
    copies: dict[int, Any] = {}
    for node in old.graph.nodes:
        if node.op == "get_attr":
            original = fetch(old, str(node.target))
            if id(original) not in copies:
                copies[id(original)] = _cut_tensor(original, groups.coupling.values.get(node), sizes)
            state[str(node.target)] = copies[id(original)]
    graph = next(iter(nodes.values())).graph
    graph.set_codegen(copy.deepcopy(old.graph._codegen))
    module = fx.GraphModule(state, graph, class_name="Pruned")
    module.train(False)
    # What a later save needs to write a reference: the examples, and which model this came from.
    traced = groups.graph
    module.meta["secateur"] = {
        "fingerprint": traced.fingerprint, "args": traced.args, "kwargs": dict(traced.kwargs),
    }  # fmt: skip
    return Emitted(module, nodes, sizes)


def rewrite(groups: Groups, sizes: Sizes, state: dict[str, Any]) -> dict[fx.Node, fx.Node]:
    """A copy of the program's nodes with the sizes in their arguments rewritten, by original node.

    Args:
        groups: of the program.
        sizes: what is kept.
        state: takes the constants that rewrites add.
    """
    coupling, graph = groups.coupling, fx.Graph()
    nodes: dict[fx.Node, fx.Node] = {}
    for node in groups.graph.module.graph.nodes:
        new = graph.node_copy(node, lambda n: nodes[n])
        new.meta = {k: v for k, v in node.meta.items() if k in ("nn_module_stack", "stack_trace")}
        nodes[node] = new
        if node.op == "call_function" and coupling.values.get(node) is not None:
            change = rewrite_of(op_name(node), coupling.operators)
            if change is not None:
                notes = coupling.facts.notes.get(node, {})
                nodes[node] = change(Call(node, new, coupling.values, notes, sizes, state)) or new
    return nodes


def _cut_tensor(original: Any, value: Any, sizes: Sizes) -> Any:
    if not isinstance(original, Tensor) or not isinstance(value, Value):
        return original if not isinstance(original, Tensor) else original.detach().clone()
    cut = sizes.take(original.detach(), value.axes).clone()
    if isinstance(original, torch.nn.Parameter):
        return torch.nn.Parameter(cut, requires_grad=original.requires_grad)
    return cut
