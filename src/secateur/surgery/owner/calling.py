"""Calls of a class and of a program side by side: on which inputs, with which weights, and what comes out."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from secateur.graph import Graph, evaluating

Samples = list[tuple[Any, dict[str, Any]]]
"""Positional and keyword arguments of several calls."""


def samples(model: nn.Module, graph: Graph) -> Samples:
    """The example inputs and, where the batch is free, a batch of three.

    Code that takes a batch apart may leave its size in the program although an axis is symbolic: what the program does
    with another size is then not what the model does.
    """
    given = (graph.args, dict(graph.kwargs))

    def three(value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.dim():
            return value
        return torch.cat([value, value[:1]]) if value.shape[0] == 2 else value

    if not graph.dynamic:
        return [given]
    args, kwargs = pytree.tree_map(three, given)
    buffers = {
        name: b.clone() for name, b in model.named_buffers()
    }  # code may write to them, and to attributes
    try:
        ours = outputs_of(graph.module, args, kwargs, {})
        with evaluating(model):
            theirs = outputs_of(model, args, kwargs, buffers)
    except Exception:  # one of the two takes no other size
        return [given]
    alike = [a.shape for a in ours] == [b.shape for b in theirs]
    return [given, (args, kwargs)] if alike else [given]


def outputs_of(
    module: nn.Module, args: Any, kwargs: Mapping[str, Any], state: Mapping[str, Tensor]
) -> list[Tensor]:
    """All tensors that a module returns with ``state`` in place of its own, in evaluation mode, modes as before."""
    training = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            given = copy.deepcopy((tuple(args), dict(kwargs)))
            found = torch.func.functional_call(module, _once(module, state), *given, tie_weights=False)
    finally:
        for m, was in training:
            m.training = was
    found = dict(found) if hasattr(found, "items") and not isinstance(found, dict) else found
    return [t for t in pytree.tree_leaves(found) if isinstance(t, Tensor)]


def _once(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state with each tensor of the module under one of its names.

    A module that stands in two places has two names for each of its tensors. ``functional_call`` takes both for places
    of their own (it looks for them itself unless told not to), and puts back for the second what it lent to the first.
    """
    found: dict[tuple[int, str], str] = {}
    for name in state:
        path, _, leaf = name.rpartition(".")
        try:
            found.setdefault((id(module.get_submodule(path)), leaf), name)
        except AttributeError:
            found[id(name), name] = name
    return {name: state[name] for name in found.values()}
