"""Calls of a class and of a program side by side: on which inputs, with which weights, and what comes out."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from secateur.graph import Graph

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
    try:
        ours, theirs = (outputs_of(m, args, kwargs, {}) for m in (graph.module, model))
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
            found = torch.func.functional_call(module, dict(state), *given)
    finally:
        for m, was in training:
            m.training = was
    found = dict(found) if hasattr(found, "items") and not isinstance(found, dict) else found
    return [t for t in pytree.tree_leaves(found) if isinstance(t, Tensor)]
