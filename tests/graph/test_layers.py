"""Layers as linear maps: what a layer reads, times its weight, is what it gives."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from secateur.graph import fetch, layer_of, trace


class Addmm(nn.Module):
    """A linear layer with its weight the other way round, as GPT-2 has them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(5, 7)), nn.Parameter(torch.randn(7))

    def forward(self, x):
        return torch.addmm(self.bias, x.reshape(-1, 5), self.weight)


class Matmul(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 7))

    def forward(self, x):
        return x @ self.weight


LAYERS = {
    "linear": (nn.Linear(5, 7), (3, 4, 5)),
    "linear without bias": (nn.Linear(5, 7, bias=False), (3, 5)),
    "addmm": (Addmm(), (3, 4, 5)),
    "matmul": (Matmul(), (3, 4, 5)),
    "conv1d": (nn.Conv1d(4, 6, 3, stride=2, padding=1), (3, 4, 9)),
    "conv2d": (nn.Conv2d(4, 6, (3, 2), stride=(1, 2), padding=(2, 0), dilation=(2, 1)), (3, 4, 9, 8)),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2, bias=False), (3, 4, 7, 7)),
    "depthwise": (nn.Conv2d(4, 4, 3, groups=4, padding=1), (3, 4, 7, 7)),
    "same": (nn.Conv2d(4, 6, (4, 3), padding="same"), (3, 4, 7, 7)),
    "valid": (nn.Conv2d(4, 6, 3, padding="valid"), (3, 4, 7, 7)),
    "conv3d": (nn.Conv3d(2, 4, (1, 3, 2), padding=(0, 1, 0)), (3, 2, 3, 5, 4)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_what_is_read_times_the_weight_is_what_is_given(kind: str) -> None:
    model, shape = LAYERS[kind]
    x = torch.randn(shape)
    graph = trace(model.eval(), x)
    (layer,) = [found for n in graph.nodes if (found := layer_of(n, graph.module)) is not None]
    y = model(x).detach()
    source = x.reshape(-1, 5) if kind == "addmm" else x
    assert layer.positions_of(source) == layer.positions(y)
    picks = torch.randperm(layer.positions(y))[:11]
    weight = fetch(graph.module, layer.weight)
    matrix = layer.matrix(weight)
    read = layer.read(source, picks)
    assert read.shape == (len(picks), layer.groups, layer.inputs)
    assert layer.outputs_of(weight) == y.shape[layer.channel]
    given = torch.einsum("pgk,gko->pgo", read, matrix).flatten(1)
    if layer.bias is not None:
        given = given + fetch(graph.module, layer.bias)
    torch.testing.assert_close(given.detach(), layer.rows(y, picks), rtol=1e-4, atol=1e-5)
    assert torch.equal(layer.weight_of(matrix, weight.shape), weight)


def test_calls_without_a_weight_of_their_own_are_no_layers() -> None:
    class Both(nn.Module):
        def forward(self, x):
            return torch.nn.functional.linear(x, x) + x @ x

    graph = trace(Both().eval(), torch.randn(4, 4), dynamic=None)
    assert [layer_of(n, graph.module) for n in graph.nodes] == [None] * len(graph.nodes)
