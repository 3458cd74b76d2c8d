"""Calls whose results nobody reads, put back into a program.

The exporter drops what reaches no output. The user's class computes it all the same: a pooler, say, whose result the
head ignores. When its inputs get narrower its weights must follow, or the class does not run. Such calls stand at
the end of the program, before the output, and are known by name to none of its results.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from secateur.graph.record import Graph, fetch


def unread_nodes(graph: fx.Graph, ends: int) -> list[fx.Node]:
    """Calls of an exported program that only its last ``ends`` outputs need, in order."""
    output = next(iter(graph.find_nodes(op="output")))
    returned = list(output.args[0])
    read = returned[: len(returned) - ends]
    pending = [n for n in read if isinstance(n, fx.Node)]
    pending += [n for n in graph.nodes if n.op == "call_function" and _changes_something(n)]
    live: set[fx.Node] = set()
    while pending:
        node = pending.pop()
        if node not in live:
            live.add(node)
            pending += node.all_input_nodes
    return [n for n in graph.nodes if n.op == "call_function" and n not in live]


def with_unread(
    graph: Graph,
    model: nn.Module,
    exported: torch.export.ExportedProgram,
    unread: Iterable[fx.Node],
    twin: Mapping[fx.Node, fx.Node],
) -> tuple[Graph, dict[fx.Node, fx.Node]]:
    """The program with further calls.

    Args:
        graph: the traced program.
        model: the user's model, whose tensors the calls may read.
        exported: another export of the same model.
        unread: calls of it that ``graph`` does not have, in order.
        twin: for its other nodes, those of ``graph``.

    Returns:
        The larger program, of the same fingerprint, and for the nodes of both programs those in it.
    """
    new, state = fx.Graph(), dict[str, Any]()
    nodes: dict[fx.Node, fx.Node] = {}
    output: fx.Node | None = None
    for node in graph.nodes:
        if node.op == "output":
            output = node
            continue
        nodes[node] = new.node_copy(node, nodes.__getitem__)
        nodes[node].meta = dict(node.meta)
        if node.op == "get_attr":
            state[str(node.target)] = fetch(graph.module, str(node.target))
    known = {theirs: nodes[ours] for theirs, ours in twin.items()}
    given = (nodes[n] for n in graph.nodes if n.op == "placeholder")
    inputs = dict(zip(exported.graph_signature.user_inputs, given, strict=False))
    tensors = _state(exported, model)
    held = {id(t): name for name, t in state.items()}

    def imported(node: fx.Node) -> fx.Node:
        if node in known:
            return known[node]
        if node.op == "placeholder" and node.name in inputs:
            known[node] = inputs[node.name]
        elif node.op == "placeholder":
            name, tensor = tensors[node.name]
            name = held.setdefault(id(tensor), name)
            state[name] = tensor
            known[node] = new.create_node("get_attr", name)
            known[node].meta = dict(node.meta)
        elif node.op == "call_function" and not _changes_something(node):
            known[node] = new.node_copy(node, imported)
            known[node].meta = dict(node.meta)
        else:
            raise KeyError(node.name)
        return known[node]

    for node in unread:
        try:
            imported(node)
        except KeyError:
            continue  # it depends on what cannot be told
    assert output is not None
    new.node_copy(output, nodes.__getitem__)
    new.set_codegen(copy.deepcopy(graph.module.graph._codegen))
    module = fx.GraphModule(state, new, class_name="Whole")
    module.train(False)
    used = {id(t): name for name, t in state.items() if isinstance(t, Tensor)}
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    aliases = {name: used[id(t)] for name, t in named if id(t) in used and used[id(t)] != name}
    whole = replace(graph, module=module, aliases={**aliases, **graph.aliases})
    return whole, {**nodes, **known}


def _state(exported: torch.export.ExportedProgram, model: nn.Module) -> dict[str, tuple[str, Tensor]]:
    """For the placeholders of an exported program that stand for state: its name, and the model's own tensor."""
    signature = exported.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    constants = signature.inputs_to_lifted_tensor_constants
    found = {p: (name, fetch(model, name)) for p, name in names.items()}
    return found | {
        p: (f"unread_{name.replace('.', '_')}", exported.constants[name]) for p, name in constants.items()
    }


def reading_only(calls: Collection[fx.Node]) -> frozenset[fx.Node]:
    """Calls and the nodes of state that only they read."""
    reads = {n for call in calls for n in call.all_input_nodes if n.op == "get_attr"}
    return frozenset(calls) | {n for n in reads if all(user in calls for user in n.users)}


def only_unread_state(graph: Graph, unread: Collection[fx.Node]) -> frozenset[str]:
    """Names of the tensors that no other call reads."""
    reads: dict[str, bool] = {}
    for node in graph.module.graph.find_nodes(op="get_attr"):
        only = node in unread or all(user in unread for user in node.users)
        reads[str(node.target)] = reads.get(str(node.target), True) and only
    return frozenset(name for name, only in reads.items() if only)


def _changes_something(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and bool(schema.is_mutable)
