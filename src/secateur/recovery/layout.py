"""Channels-last weights while convolutions are trained on a processor: a tenth to a third less time.

A model whose ``view`` calls need the usual layout does not run this way; one batch in evaluation mode finds out,
and then everything stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from secateur.data import device_of, restore_modes, seeded, training_modes
from secateur.task import call, split_batch


@contextmanager
def fast_layout(model: nn.Module, loader: Any) -> Iterator[None]:
    """Changes the layout in memory of 4-axis weights for the length of a block, where that works and pays."""
    device = device_of(model)
    convolutions = [p for p in model.parameters() if p.ndim == 4 and max(p.shape[2:]) > 1]
    usual = all(p.is_contiguous() for p in convolutions)
    if device.type != "cpu" or len(convolutions) < 2 or not usual:
        yield
        return
    try:
        _to(model, torch.channels_last)
        if not _runs(model, loader):
            _to(model, torch.contiguous_format)
        yield
    finally:
        _to(model, torch.contiguous_format)


def _to(model: nn.Module, layout: torch.memory_format) -> None:
    # In place on the data, so that the optimiser and tied weights keep their tensors.
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.ndim == 4:
                tensor.data = tensor.data.contiguous(memory_format=layout)


def _runs(model: nn.Module, loader: Any) -> bool:
    modes = training_modes(model)
    try:
        model.eval()
        with torch.no_grad(), seeded(0):
            inputs, _ = split_batch(next(iter(loader)))
            call(model, inputs)
    except RuntimeError:
        return False
    finally:
        restore_modes(modes)
    return True
