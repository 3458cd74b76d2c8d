"""Lets an exported program follow ``train()`` and ``eval()`` again.

The exporter bakes the mode into constants: batch norm reads fixed statistics, dropout passes through. Here
those constants become reads of ``self.training``, so that the plain ``fx.GraphModule`` behaves like the
module it came from: batch norm updates its statistics, dropout drops, attention drops its weights.
Stochastic depth is a Python branch that leaves no trace in the program, and stays off.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx, nn

from secateur.graph.normalise import op_name
from secateur.graph.record import fetch

_DROPOUT = frozenset(
    f"aten::{kind}{suffix}" for kind in ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
    for suffix in ("", "_")
)  # fmt: skip
_RECURRENT = frozenset(("aten::lstm", "aten::gru", "aten::rnn_tanh", "aten::rnn_relu"))
_ATTENTION_DROPOUT = (
    "dropout",
    "attention_dropout",
    "attn_dropout",
    "attn_drop",
    "dropout_p",
    "dropout_prob",
)


def count_batch(counter: Tensor, training: bool) -> None:
    """Adds one to a batch norm's ``num_batches_tracked``, in training."""
    if training:
        counter.add_(1)


def when_training(value: float, training: bool) -> float:
    """A rate that holds in training and is zero otherwise."""
    return value if training else 0.0


MODE_FUNCTIONS = {"count_batch": count_batch, "when_training": when_training}
"""The only functions of ours that a program may call; a stored program names them."""


def follow_modes(module: fx.GraphModule, model: nn.Module, state: dict[str, Any]) -> None:
    """Rewrites mode constants of the program in place; the module has to be built anew.

    Args:
        module: the exported program, in evaluation mode.
        model: the user's model, read for attention's dropout rates.
        state: the exported state, read for ``num_batches_tracked``.
    """
    mode = _Mode(module.graph)
    for node in list(module.graph.nodes):
        if node.op != "call_function":
            continue
        name = op_name(node)
        if name == "aten::batch_norm" and node.args[3] is not None and node.args[5] is False:
            _batch_norm(module, node, state, mode.read(node))
        elif name in _DROPOUT and node.args[2] is False:
            node.args = (*node.args[:2], mode.read(node))
        elif name in _RECURRENT:  # they drop out between their layers
            at = [a.name for a in node.target._schema.arguments].index("train")
            node.args = (*node.args[:at], mode.read(node), *node.args[at + 1 :])
        elif name == "aten::scaled_dot_product_attention":
            rate = _attention_rate(node, model)
            if rate > 0.0:
                _attention(module, node, rate, mode.read(node))


class _Mode:
    """The node that reads the mode: one for the whole program, before its first use."""

    def __init__(self, graph: fx.Graph) -> None:
        self.graph = graph
        self.node = next(iter(graph.find_nodes(op="get_attr", target="training")), None)

    def read(self, before: fx.Node) -> fx.Node:
        """That node; it is made if there is none yet."""
        if self.node is None:
            with self.graph.inserting_before(before):
                self.node = self.graph.create_node("get_attr", "training")
        return self.node


def _batch_norm(module: fx.GraphModule, node: fx.Node, state: dict[str, Any], training: fx.Node) -> None:
    node.args = (*node.args[:5], training, *node.args[6:])
    statistics = node.args[3]
    assert isinstance(statistics, fx.Node)
    owner, dot, _ = str(statistics.target).rpartition(".")
    name = f"{owner}{dot}num_batches_tracked"
    counter = state.get(name)
    if statistics.op == "get_attr" and isinstance(counter, Tensor):
        home = fetch(module, owner) if owner else module
        home.register_buffer("num_batches_tracked", counter)
        with module.graph.inserting_before(node):
            read = module.graph.create_node("get_attr", name)
            module.graph.call_function(count_batch, (read, training))


def _attention_rate(node: fx.Node, model: nn.Module) -> float:
    """The dropout rate of the module that called attention, if it has one under a usual name."""
    stack = node.meta.get("nn_module_stack") or {}
    if not stack:
        return 0.0
    path = list(stack.values())[-1][0]
    try:
        owner = model.get_submodule(path)
    except AttributeError:
        return 0.0
    for name in _ATTENTION_DROPOUT:
        found = getattr(owner, name, None)
        found = getattr(found, "p", found)
        if isinstance(found, float) and 0.0 < found < 1.0:
            return found
    return 0.0


def _attention(module: fx.GraphModule, node: fx.Node, rate: float, training: fx.Node) -> None:
    with module.graph.inserting_before(node):
        now = module.graph.call_function(when_training, (rate, training))
    args = list(node.args) + [None] * max(0, 5 - len(node.args))
    kwargs = {k: v for k, v in node.kwargs.items() if k not in ("attn_mask", "dropout_p")}
    if len(node.args) < 4:
        args[3] = node.kwargs.get("attn_mask")
    args[4] = now
    node.args, node.kwargs = tuple(args), kwargs
