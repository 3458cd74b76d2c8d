"""Weights that are computed from weights, computed once.

Weight standardisation, weight norm and spectral norm make a weight from others by a norm or a reduction, whose value
would change with a cut. Such a part of the program becomes one parameter: under the name that the module gives
the result (``conv.weight``) where torch's own parametrisations made it, else under that of the one source of its
shape, else under a name of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from secateur.graph.normalise import op_name
from secateur.graph.record import fetch

# Operators whose value at the kept positions depends on the removed ones.
_MIXING = frozenset(
    f"aten::{name}"
    for name in (
        "batch_norm", "group_norm", "instance_norm", "rms_norm", "softmax", "log_softmax",
        "_weight_norm", "_weight_norm_interface", "linalg_vector_norm", "norm", "norm_except_dim", "mean",
        "sum", "var", "std", "var_mean", "std_mean", "amax", "amin", "linalg_norm", "mv", "dot", "vdot",
        "tril", "triu", "matrix_exp", "linalg_householder_product", "linalg_solve", "linalg_matrix_exp",
        "linalg_qr", "linalg_inv",
    )
)  # fmt: skip

# What these take in are activations, though they be learnt: tokens, queries, relative positions. They are normed and
# projected as all others are, by weights that others use as well.
_LAYERS = frozenset(
    f"aten::{name}"
    for name in ("linear", "conv1d", "conv2d", "conv3d", "layer_norm", "embedding", "lstm", "gru")
)

# They change nothing where the shape stays: the exporter drops some of them, in one use and not in the next.
_COPIES = frozenset(
    f"aten::{name}" for name in ("flatten", "reshape", "view", "clone", "contiguous", "alias", "detach")
)

_PARAMETRISED = re.compile(r"^((?:.*\.)?)parametrizations\.(\w+)\.")
_HOOKED = (("_g", "_v"), ("_orig", "_u", "_v"))


def fold_parameters(module: fx.GraphModule, *, named_only: bool = False) -> dict[str, tuple[str, ...]]:
    """Computes parameter-only parts that mix positions, once, and stores each as a parameter.

    Args:
        module: the program, changed in place.
        named_only: only those that torch's own parametrisations and hooks make, see :func:`effective_name`.

    Returns:
        ``{name of the result: names of the parameters it came from}``.
    """
    sources: dict[fx.Node, tuple[str, ...]] = {}
    mixing: set[fx.Node] = set()
    for node in module.graph.nodes:
        if node.op == "get_attr" and isinstance(fetch(module, str(node.target)), Tensor):
            sources[node] = (str(node.target),)
        elif node.op == "call_function" and node.all_input_nodes and op_name(node) not in _LAYERS:
            inputs = node.all_input_nodes
            if all(i in sources for i in inputs) and isinstance(node.meta.get("val"), (Tensor, tuple, list)):
                sources[node] = tuple(dict.fromkeys(s for i in inputs for s in sources[i]))
                if op_name(node) in _MIXING or any(i in mixing for i in inputs):
                    mixing.add(node)
    folded: dict[str, tuple[str, ...]] = {}
    if not mixing:
        return folded
    values = _Constants(module)
    known: dict[str, str] = {}  # a weight that is used several times may be computed several times
    for node in list(module.graph.nodes):
        if node not in mixing or all(user in mixing for user in node.users):
            continue
        if named_only and effective_name(sources[node]) is None:
            continue
        recipe = values.recipe(node)
        if recipe not in known:
            with torch.no_grad():
                value = values.of(node).detach().clone()
            known[recipe] = _name(module, node, value, sources, folded)
            learnt = any(isinstance(fetch(module, s), torch.nn.Parameter) for s in sources[node])
            trains = any(fetch(module, s).requires_grad for s in sources[node])
            _assign(
                module, known[recipe], torch.nn.Parameter(value, requires_grad=trains) if learnt else value
            )
            folded[known[recipe]] = sources[node]
        with module.graph.inserting_before(node):
            new = module.graph.create_node("get_attr", known[recipe])
        new.meta = dict(node.meta)
        node.replace_all_uses_with(new)
    return folded


def effective_name(sources: Sequence[str]) -> str | None:
    """What a module calls the weight that torch's parametrisations or norm hooks make of ``sources``.

    ``conv.parametrizations.weight.original0`` and ``original1`` make ``conv.weight``, and so do ``conv.weight_g``
    and ``conv.weight_v``.
    """
    found = {m.group(1) + m.group(2) if (m := _PARAMETRISED.match(s)) else None for s in sources}
    if len(found) == 1:
        (name,) = found
        if name is not None:
            return name
    for endings in _HOOKED:
        stems = {s.removesuffix(e) for s in sources for e in endings if s.endswith(e)}
        if len(stems) == 1 and {stem + e for stem in stems for e in endings} == set(sources):
            return stems.pop()
    return None


def computes_weights(folded: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether a model's own code computed a weight that was folded: no parametrisation of torch's that comes off."""
    return any(effective_name(sources) is None for sources in folded.values())


def _name(
    module: fx.GraphModule,
    node: fx.Node,
    value: Tensor,
    sources: Mapping[fx.Node, tuple[str, ...]],
    folded: Mapping[str, Any],
) -> str:
    same_shape = [s for s in sources[node] if fetch(module, s).shape == value.shape]
    effective = effective_name(sources[node])
    read = {str(n.target) for n in module.graph.nodes if n.op == "get_attr"}
    if effective is not None and same_shape and effective not in read and effective not in folded:
        return effective
    if len(same_shape) == 1 and _only_for(module, same_shape[0], node, sources):
        return same_shape[0]
    return f"folded_{len(folded)}"


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
        self.module, self.values, self.recipes = module, dict[fx.Node, Any](), dict[fx.Node, str]()
        self.original = {n: fetch(module, str(n.target)) for n in module.graph.nodes if n.op == "get_attr"}

    def of(self, node: fx.Node) -> Any:
        if node.op == "get_attr":
            self.original.setdefault(node, fetch(self.module, str(node.target)))  # folded a moment ago
        if node in self.original:
            return self.original[node]
        if node not in self.values:
            args = fx.map_arg(node.args, self.of)
            kwargs = fx.map_arg(node.kwargs, self.of)
            assert callable(node.target)
            self.values[node] = node.target(*args, **kwargs)
        return self.values[node]

    def recipe(self, node: fx.Node) -> str:
        """How a node's value comes about, in words that are equal for equal computations."""
        if node.op == "get_attr":
            return f"#{id(self.of(node))}"
        if op_name(node) in _COPIES and _same_shape(node):
            return self.recipe(node.args[0])  # type: ignore[arg-type]
        if node not in self.recipes:
            given = fx.map_arg((node.args, node.kwargs), self.recipe)
            self.recipes[node] = f"{node.target}{given}"
        return self.recipes[node]


def _same_shape(node: fx.Node) -> bool:
    source = node.args[0]
    return isinstance(source, fx.Node) and source.meta["val"].shape == node.meta["val"].shape


def _assign(module: torch.nn.Module, target: str, value: Any) -> None:
    *path, leaf = target.split(".")
    owner = fetch(module, ".".join(path)) if path else module
    if leaf in owner._parameters and isinstance(value, torch.nn.Parameter):
        owner._parameters[leaf] = value
        return
    if leaf in owner._buffers and not isinstance(value, torch.nn.Parameter):
        owner._buffers[leaf] = value
        return
    if hasattr(owner, leaf):
        delattr(owner, leaf)
    if isinstance(value, torch.nn.Parameter):
        owner.register_parameter(leaf, value)
    else:
        owner.register_buffer(leaf, value)
