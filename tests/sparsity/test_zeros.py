"""Zeros are counted weight by weight."""

from __future__ import annotations

import torch
from torch import nn

from secateur.sparsity import count_zeros


def test_zeros_of_weights_only() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    with torch.no_grad():
        model[0].weight.fill_(1.0)[1] = 0.0
        model[1].weight.fill_(1.0)
        model[0].bias.zero_()
    found = count_zeros(model)
    assert set(found) == {"0.weight", "1.weight"}
    assert (found["0.weight"].zeros, found["0.weight"].size, found["0.weight"].share) == (4, 12, 4 / 12)
    assert found["1.weight"].share == 0.0
