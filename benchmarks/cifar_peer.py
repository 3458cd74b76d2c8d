"""Torch-Pruning on the CIFAR ResNets: inner channels alone, since its cut of an option-A shortcut does not run."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch_pruning as tp
from torch import nn


def torch_pruned(
    model: nn.Module,
    p: int,
    global_: bool,
    most: float,
    multiply_adds: Callable[[nn.Module], float],
    example: tuple[int, ...],
) -> nn.Module:
    """The largest network of at most ``most`` multiply-adds, found by bisection on the pruning ratio.

    Args:
        p: norm of the group importance, its defaults otherwise.
        global_: one ranking of all channels; else the same ratio everywhere.
    """
    low, high = 0.0, 1.0
    best: nn.Module | None = None
    for _ in range(9):
        ratio = (low + high) / 2
        cut = _at(model, p, global_, ratio, example)
        if multiply_adds(cut) <= most:
            best, high = cut, ratio
        else:
            low = ratio
    if best is None:
        raise RuntimeError("no pruning ratio reaches the budget")
    return best


def _at(model: nn.Module, p: int, global_: bool, ratio: float, example: tuple[int, ...]) -> nn.Module:
    twin = copy.deepcopy(model)
    # What ends in the residual stream stays: it would have to be padded to other widths in the shortcuts.
    stream = [m for n, m in twin.named_modules() if n in ("conv1", "linear") or n.endswith(".conv2")]
    pruner = tp.pruner.BasePruner(
        twin,
        torch.randn(example),
        importance=tp.importance.GroupMagnitudeImportance(p=p),
        global_pruning=global_,
        pruning_ratio=ratio,
        ignored_layers=stream,
    )
    pruner.step()
    return twin.eval()
