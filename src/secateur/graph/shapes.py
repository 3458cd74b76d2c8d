"""Models whose tensors have shapes and no values: on torch's meta device, as a model too large for memory is built.

Everything that reads no weight works on them: the export, the groups, sizes and costs of a plan. Nothing is run and
nothing is compared, and the records say so. A model of which only a part is there (weights on the meta device, buffers
that were computed) is analysed as a copy that has shapes alone, since the exporter takes no mixture.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree


def shapes_alone(model: nn.Module) -> bool:
    """Whether some of a model's tensors have no values."""
    return any(t.is_meta for t in (*model.parameters(), *model.buffers()))


def as_shapes(model: nn.Module) -> nn.Module:
    """The model with all of its tensors on the meta device: itself where they are, else a copy."""
    held = [t for m in model.modules() for t in _tensors(m)]
    if all(t.is_meta for t in held):
        return model
    return copy.deepcopy(model, {id(t): _without_values(t) for t in held})


def inputs_as_shapes(inputs: Any) -> Any:
    """Example inputs on the meta device."""
    return pytree.tree_map_only(Tensor, lambda t: t.to("meta"), inputs)


def _tensors(module: nn.Module) -> list[Tensor]:
    plain = (v for v in vars(module).values() if isinstance(v, Tensor))
    return [*module.parameters(recurse=False), *module.buffers(recurse=False), *plain]


def _without_values(tensor: Tensor) -> Tensor:
    empty = torch.empty_like(tensor, device="meta", requires_grad=False)
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
