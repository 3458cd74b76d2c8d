"""A loss that needs no labels: its gradient is that of labels drawn from what the model itself predicts.

The mean square of that gradient is the Fisher information of the outputs (Kunstner, Balles and Hennig, "Limitations
of the empirical Fisher approximation", NeurIPS 2019, on why to draw labels). Outputs that are no class scores are
taken for the mean of a Gaussian, whose width is their own spread.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from secateur.data import is_classification
from secateur.task import Task


def drawn_loss(task: Task, outputs: Tensor, generator: torch.Generator) -> Tensor:
    """The sum over samples of a loss whose gradient has the Fisher information of the outputs as its covariance."""
    if is_classification(task):
        flat = outputs.flatten(0, -2) if outputs.dim() > 1 else outputs[None]
        chances = flat.detach().softmax(-1).cpu()
        labels = torch.multinomial(chances, 1, generator=generator).squeeze(1).to(flat.device)
        return F.cross_entropy(flat, labels, reduction="sum")
    noise = torch.randn(outputs.shape, generator=generator).to(outputs.device, outputs.dtype)
    spread = outputs.detach().std().clamp(min=1e-12) if outputs.numel() > 1 else outputs.new_ones(())
    return (outputs * noise).sum() / spread
