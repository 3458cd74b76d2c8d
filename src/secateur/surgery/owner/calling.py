"""Calls of a class and of a program side by side: on which inputs, with which weights, and what comes out."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree


def samples(args: Any, kwargs: Mapping[str, Any], dynamic: bool) -> list[tuple[Any, dict[str, Any]]]:
    """The example inputs and, where the batch is free, a batch of three."""
    given = (args, dict(kwargs))

    def three(value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.dim():
            return value
        return torch.cat([value, value[:1]]) if value.shape[0] == 2 else value

    return [given, pytree.tree_map(three, given)] if dynamic else [given]


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
