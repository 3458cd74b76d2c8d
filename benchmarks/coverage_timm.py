"""timm's models for the coverage table."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision_operators import define
from zoo_models import randomise

define()


def names() -> list[str]:
    """The models of the list."""
    return ["resnet18"]


def build(name: str) -> tuple[nn.Module, Tensor]:
    """A model with random weights, in evaluation mode, and one small image."""
    import timm

    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False)
    randomise(model)
    return model.eval(), torch.randn(1, 3, 96, 96)
