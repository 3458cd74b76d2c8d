"""Counts of parameters and multiply-adds: of the dense zoo by hand, and of cuts by cutting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from secateur.cost import Macs, Params
from secateur.coupling import Groups, find_groups
from secateur.graph import trace
from secateur.planning import dead_atoms
from secateur.surgery import cut_groups
from secateur.task import call
from tests.zoo import ZOO, random_plan, ready


def everything(groups: Groups) -> np.ndarray:
    return np.ones(groups.coupling.facts.size, dtype=bool)


@pytest.mark.parametrize("name", ZOO)
def test_parameters_by_hand(name: str) -> None:
    model, groups = ready(name)
    assert (
        Params(groups.graph).bind(groups).of(everything(groups))
        == ZOO[name].params
        == groups.graph.parameters
    )
    if name != "folded":  # there the magnitudes of weight norm are folded
        assert ZOO[name].params == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", ZOO)
def test_macs_by_hand(name: str) -> None:
    groups = ready(name)[1]
    assert Macs(groups.graph).bind(groups).of(everything(groups)) == ZOO[name].macs


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_count_of_a_cut_is_that_of_the_cut_model(name: str, seed: int) -> None:
    groups = ready(name)[1]
    plan = random_plan(groups, seed)
    alive = groups.coupling.alive(dead_atoms(groups, plan))
    module = cut_groups(groups, plan).module
    assert Params(groups.graph).bind(groups).of(alive) == sum(p.numel() for p in module.parameters())
    again = find_groups(trace(module, ZOO[name].inputs(2)))
    assert Macs(again.graph).bind(again).of(everything(again)) == Macs(groups.graph).bind(groups).of(alive)


def test_by_layer() -> None:
    groups = ready("plain")[1]
    assert Macs(groups.graph).bind(groups).by_layer(everything(groups)) == {
        "conv1": 64 * 3 * 8 * 9, "conv2": 64 * 8 * 16 * 9, "fc": 64 * 5,
    }  # fmt: skip
    assert Params(groups.graph).bind(groups).by_layer(everything(groups)) == {
        "conv1": 216, "bn1": 16, "conv2": 1152, "bn2": 32, "fc": 325,
    }  # fmt: skip


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_macs_are_of_one_sample(batch: int) -> None:
    groups = ZOO["separate"].found(batch=batch)
    assert Macs(groups.graph).bind(groups).of(everything(groups)) == ZOO["separate"].macs


class Letters(nn.Module):
    """An einsum, its result given or not."""

    def __init__(self, equation: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 6))
        self.equation = equation

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum(self.equation, x, self.weight)


@pytest.mark.parametrize("equation", ["bi,ij->bj", "bi,ij", "...i,ij->...j", "bi, ij -> bj"])
def test_macs_of_einsum(equation: str) -> None:
    model = Letters(equation)
    groups = find_groups(trace(model, torch.randn(2, 4)))
    assert Macs(groups.graph).bind(groups).of(everything(groups)) == 4 * 6


def test_counts_agree_with_torch() -> None:
    """PyTorch's own counter (two operations for each multiply-add), where it knows every operator."""
    from torch.utils.flop_counter import FlopCounterMode

    for name in ("plain", "depthwise", "grouped", "dense", "mixer", "gated", "conv3d", "option_a"):
        model, _ = ready(name)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            call(model, ZOO[name].inputs(1))
        assert counter.get_total_flops() == 2 * ZOO[name].macs, name
