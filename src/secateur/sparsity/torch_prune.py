"""Masks as ``torch.nn.utils.prune`` keeps them: read, written, made permanent.

There, a pruned parameter is held as ``NAME_orig`` and ``NAME_mask``, and ``NAME`` is their product, computed before
each call of the module. Training goes on under the masks, since gradients pass through the product.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from secateur.errors import InputError


def masks_of(model: nn.Module) -> dict[str, Tensor]:
    """The masks of a model, bool, by the names of the parameters that they cover."""
    return {
        _joined(path, name): getattr(module, f"{name}_mask").detach().bool()
        for path, module, name in _masked(model)
    }


def put_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> nn.Module:
    """Puts masks on a model, in place, as ``torch.nn.utils.prune`` would; on top of those it has.

    Args:
        masks: bool or 0 and 1, by parameter name, each of its parameter's shape.

    Raises:
        InputError: a name that is no parameter, or a mask of another shape.
    """
    modules = dict(model.named_modules())
    for full, mask in masks.items():
        path, _, name = full.rpartition(".")
        module = modules.get(path)
        held = getattr(module, name, None)
        if module is None or not isinstance(held, Tensor):
            raise InputError(f"the masks name '{full}', which is no parameter of the model")
        if held.shape != mask.shape:
            raise InputError(
                f"the mask of '{full}' has shape {list(mask.shape)}, the parameter {list(held.shape)}: give the model "
                "that the masks were made for"
            )
        prune.custom_from_mask(module, name, mask.to(held.device, held.dtype))
    return model


def permanent(model: nn.Module) -> nn.Module:
    """A copy of a model whose masks are applied for good: its parameters have their own names again, with zeros.

    The model itself is not changed. A model without masks is copied as it is.
    """
    memo: dict[int, Any] = {}
    for _, module, name in _masked(model):
        product = getattr(module, name)  # no leaf, which a plain copy refuses
        memo[id(product)] = product.detach().clone()
    twin = copy.deepcopy(model, memo)
    for _, module, name in list(_masked(twin)):
        prune.remove(module, name)
    return twin


def _masked(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    for path, module in model.named_modules():
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, prune.BasePruningMethod):
                yield path, module, hook._tensor_name


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def apply_(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Sets what masks leave out to zero, in place."""
    own = dict(model.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, mask in masks.items():
            own[name].mul_(mask.to(own[name].device, own[name].dtype))
