from __future__ import annotations

import pytest
import torch
from torch import nn

from secateur.cli.datasets import resolve_data
from secateur.cli.demo_model import DemoNet, train_demo_model
from secateur.data import evaluate
from secateur.task import classification


def test_the_networks_size_is_set_by_its_convolutions():
    model = DemoNet().eval()
    macs = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda m, i, o: macs.append(m.weight.numel() * o.shape[2] * o.shape[3])
            )
    assert model(torch.zeros(2, 1, 24, 24)).shape == (2, 10)
    assert sum(macs) == 304_846_848
    assert sum(p.numel() for p in model.parameters()) == 2_434_346


def test_training_learns_is_seeded_and_leaves_the_generator_alone():
    pytest.importorskip("sklearn")
    train, test, _ = resolve_data("digits")
    x, y = train.dataset.tensors
    batches = [(x[i::40], y[i::40]) for i in range(40)]
    seen = []

    def trained():
        torch.manual_seed(0)
        small = DemoNet((16, 32), (1, 1))
        torch.manual_seed(1)
        return train_demo_model(3, lambda *now: seen.append(now), train=batches, epochs=3, model=small)

    torch.manual_seed(1)
    expected = torch.rand(1)
    model = trained()
    assert torch.rand(1) == expected
    assert evaluate(model, test, classification()).metric > 0.8
    assert not model.training and all(p.is_contiguous() and p.grad is None for p in model.parameters())
    assert [s[0] for s in seen] == list(range(1, 121)) and {s[1] for s in seen} == {120}
    again = trained()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
