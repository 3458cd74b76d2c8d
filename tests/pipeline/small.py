"""A tiny job for pipeline tests: a network, learnable data, a device whose times follow the file's size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from secateur.bench import FakeDevice
from secateur.planning import Budget
from secateur.recipe import CriterionOptions, MeasureOptions, Recipe, RecoveryOptions
from secateur.task import Task


class Small(nn.Module):
    """Two convolutions with batch norm, dropout, and a linear layer: 32 and 64 channels, 4 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(64)
        self.drop = nn.Dropout(0.1)
        self.fc = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return self.fc(self.drop(x.mean((2, 3))))


def network(seed: int = 0) -> Small:
    """The network with seeded weights."""
    torch.manual_seed(seed)
    return Small()


def batches(count: int = 8, size: int = 16, seed: int = 1) -> list[tuple[Tensor, Tensor]]:
    """Images whose brightest quadrant is their class."""
    generator = torch.Generator().manual_seed(seed)
    out = []
    for _ in range(count):
        target = torch.randint(0, 4, (size,), generator=generator)
        images = 0.3 * torch.randn(size, 1, 8, 8, generator=generator)
        for i, t in enumerate(target.tolist()):
            row, column = divmod(t, 2)
            images[i, 0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 1.0
        out.append((images, target))
    return out


def recipe(budget: Budget, **options: object) -> Recipe:
    """A recipe that is quick: short training, no measurement between rounds."""
    defaults: dict[str, object] = {
        "recovery": RecoveryOptions(epochs=1, final_epochs=1, lr=1e-3),
        "measure": MeasureOptions(seconds=0.2, rounds=False),
        "threads": 1,
        "target": "torch:fp32",
        "multiple": 4,
    }
    return Recipe(budget=budget, **{**defaults, **options})  # type: ignore[arg-type]


def magnitude() -> CriterionOptions:
    """A criterion that calls no loss."""
    return CriterionOptions("magnitude")


def device() -> FakeDevice:
    """Milliseconds in proportion to the artifact's bytes."""
    return FakeDevice(lambda entry, turn: entry.path.stat().st_size / 1e4)


def mean_output_task() -> Task:
    """A task whose metric is better when lower, without classes."""
    return Task(
        loss=lambda outputs, target: ((outputs.mean(1) - target.float()) ** 2).mean(),
        metric=lambda outputs, targets: float(((outputs.mean(1) - targets.float()) ** 2).mean()) / 100,
        higher_is_better=False,
        name="error",
    )
