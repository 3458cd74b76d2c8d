"""Zeros among the weights: how many there are, layer by layer.

Structured pruning leaves none behind; a model that comes with zeros keeps them, and the report says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Zeros:
    """Zeros of one parameter: ``zeros`` of ``size`` entries."""

    param: str
    zeros: int
    size: int

    @property
    def share(self) -> float:
        """Share of zeros in [0, 1]."""
        return self.zeros / self.size if self.size else 0.0


def count_zeros(model: nn.Module) -> Mapping[str, Zeros]:
    """Zeros of every parameter with at least two axes, by name; biases and norms are left out."""
    return {
        name: Zeros(name, int(torch.count_nonzero(p.detach() == 0)), p.numel())
        for name, p in model.named_parameters()
        if p.dim() >= 2
    }
