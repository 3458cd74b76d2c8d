"""The demo's network: a small residual CNN for 24x24 images of digits, trained here and now.

Few and wide 3x3 convolutions, so that arithmetic sets its latency at a batch of 1 in fp32 and in INT8 alike, and a
narrower network is a faster one. About 300 million multiply-adds and 2.4 million parameters; four epochs on 1,258
images bring it above 98 % accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.data import seeded

EPOCHS = 4
RATE = 2e-3
Progress = Callable[[int, int, float], None]
"""``progress(step, steps, loss)`` after each step."""


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm around a shortcut (He et al., 2016). ``[B, C, H, W]`` in and out."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class DemoNet(nn.Module):
    """Stem, stages of blocks, average pool, classifier. ``[B, 1, H, W]`` to ``[B, 10]``."""

    def __init__(self, widths: tuple[int, ...] = (96, 192, 256), blocks: tuple[int, ...] = (1, 2, 1)) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        stages: list[nn.Module] = []
        inputs = widths[0]
        for i, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            for j in range(count):
                stages.append(Block(inputs, width, 2 if i and not j else 1))
                inputs = width
        self.blocks = nn.Sequential(*stages)
        self.classifier = nn.Linear(inputs, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.blocks(self.stem(x)).mean(dim=(2, 3)))


def train_demo_model(
    seed: int = 0,
    progress: Progress | None = None,
    *,
    train: Iterable[Any] | None = None,
    epochs: int = EPOCHS,
    model: nn.Module | None = None,
) -> nn.Module:
    """Trains the demo's network from scratch, in evaluation mode when done.

    AdamW with the one-cycle schedule of Smith and Topin (2018). Deterministic on one machine for one seed and one
    number of threads.

    Args:
        progress: called after each step.
        train: batches to train on; default the training part of the data set ``digits``.
        model: a network to train instead of a new :class:`DemoNet`.

    Raises:
        MissingExtra: scikit-learn is not installed (for the default data).
    """
    if train is None:
        from secateur.cli.datasets import digits

        train = digits().train
    with seeded(seed):
        network = model if model is not None else DemoNet()
        # Channels last makes convolutions on the processor faster; undone at the end.
        network = network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.05)
        steps = epochs * sum(1 for _ in train)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
        for step in range(epochs):
            for i, (images, targets) in enumerate(train):
                optimizer.zero_grad()
                loss = F.cross_entropy(network(images), targets)
                loss.backward()
                optimizer.step()
                schedule.step()
                if progress is not None:
                    progress(step * (steps // epochs) + i + 1, steps, float(loss.detach()))
    for parameter in network.parameters():
        parameter.grad = None
    return network.to(memory_format=torch.contiguous_format).eval()
