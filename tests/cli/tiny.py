"""Source of a module with a tiny network and separable data, written into the current folder of a test."""

from __future__ import annotations

SOURCE = """
import torch
from torch import nn

import secateur as sc


class Net(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.inner = nn.Linear(width, 24)
        self.head = nn.Linear(24, 4)

    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu()
        x = x + self.conv2(x).relu()
        return self.head(self.inner(x.mean((2, 3))).relu())


def build(width=16):
    torch.manual_seed(0)
    return Net(width)


def damaged():
    model = build()
    model.conv1.weight.data[0, 0, 0, 0] = float("nan")
    return model


def data(samples=32):
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(samples) % 4
    images = 0.3 * torch.randn(samples, 1, 8, 8, generator=generator)
    for i, target in enumerate(targets):
        images[i, 0, :, 2 * target] += 2
    batches = [(images[i : i + 16], targets[i : i + 16]) for i in range(0, samples, 16)]
    return batches, batches


def task():
    return sc.classification()
"""
NAME = "tiny_project"
MODEL, DATA = f"{NAME}:build", f"{NAME}:data"
