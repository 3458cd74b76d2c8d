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
from secateur.graph import assemble, fetch, op_name
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
        if node.op == "get_attr" and node in nodes:
            name = str(node.target)
            original = groups.graph.state[name] if name in groups.graph.state else fetch(old, name)
            if id(original) not in copies:
                copies[id(original)] = _cut_tensor(original, groups.coupling.values.get(node), sizes)
            state[name] = copies[id(original)]
    graph = next(iter(nodes.values())).graph
    graph.set_codegen(copy.deepcopy(old.graph._codegen))
    # As torch.fx orders them: a module's own tensors come before those of its submodules.
    names = sorted(
        dict.fromkeys(str(n.target) for n in graph.nodes if n.op == "get_attr"), key=lambda n: n.count(".")
    )
    module = assemble({name: state[name] for name in names}, graph, "Pruned")
    module.recompile()
    # What a later save needs to write a reference: the examples, and which model this came from.
    traced = groups.graph
    module.meta["secateur"] = {
        "fingerprint": traced.fingerprint, "args": traced.args, "kwargs": dict(traced.kwargs),
    }  # fmt: skip
    return Emitted(module, nodes, sizes)


def rewrite(groups: Groups, sizes: Sizes, state: dict[str, Any]) -> dict[fx.Node, fx.Node]:
    """A copy of the program's nodes with the sizes in their arguments rewritten, by original node.

    Nodes that went with a removed block have none; a removed block's output is what stands in for it.

    Args:
        groups: of the program.
        sizes: what is kept.
        state: takes the constants that rewrites add.
    """
    coupling, removal, graph = groups.coupling, groups.removal, fx.Graph()
    nodes: dict[fx.Node, fx.Node] = {}
    for node in groups.graph.module.graph.nodes:
        if node in removal.gone:
            continue
        if node in removal.instead:
            nodes[node] = nodes[removal.instead[node]]
            if node in removal.copied:
                nodes[node] = graph.call_function(torch.ops.aten.clone.default, (nodes[node],))
            continue
        args, kwargs = fx.map_arg((node.args, node.kwargs), nodes.__getitem__)
        new = graph.create_node(node.op, node.target, args, kwargs, node.name, node.type)
        new.meta.update((k, node.meta[k]) for k in ("nn_module_stack", "stack_trace") if k in node.meta)
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
    cut = sizes.take(original.detach(), value.axes)
    if cut.data_ptr() == original.data_ptr():  # nothing was removed: the result must not share memory
        cut = cut.clone()
    if isinstance(original, torch.nn.Parameter):
        return torch.nn.Parameter(cut, requires_grad=original.requires_grad)
    return cut
