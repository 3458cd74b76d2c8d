"""Networks of two or three layers around one operator, and what every such network is put through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from secateur.coupling import Rule as OperatorRule
from secateur.coupling import find_groups
from secateur.graph import trace
from secateur.planning import plan_of
from secateur.surgery import cut_groups
from tests.zoo import random_plan, randomise, written

Forward = Callable[["Net", Tensor], object]
Rules = Mapping[str, OperatorRule] | None


class Net(nn.Module):
    """A few layers, and a forward pass given as a function."""

    def __init__(self, forward: Forward, **layers: nn.Module) -> None:
        super().__init__()
        self.body = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> object:
        return self.body(self, x)


@dataclass(frozen=True)
class Rule:
    """What an operator should leave. ``a``: 16 to 12, ``b``: 12 to 8, ``c``: 8 to 5 unless given."""

    name: str
    forward: Forward
    groups: Mapping[str, str]
    layers: Callable[[], dict[str, nn.Module]] = lambda: {
        "a": nn.Linear(16, 12, bias=False), "b": nn.Linear(12, 8, bias=False), "c": nn.Linear(8, 5, bias=False),
    }  # fmt: skip
    inputs: tuple[int, ...] = (2, 16)
    restricted: bool = False


def linear(*sizes: tuple[str, int, int]) -> Callable[[], dict[str, nn.Module]]:
    """Linear layers without bias, ``(name, inputs, outputs)``."""
    return lambda: {name: nn.Linear(i, o, bias=False) for name, i, o in sizes}


def build(case: Rule) -> tuple[nn.Module, Tensor]:
    """The network with every tensor random, and inputs."""
    torch.manual_seed(0)
    model = Net(case.forward, **case.layers()).eval()
    randomise(model)
    return model, torch.randn(*case.inputs)


def check(case: Rule, rules: Rules = None) -> None:
    """The groups are those expected, and cuts at random and by half verify."""
    model, x = build(case)
    groups = find_groups(trace(model, x), rules)
    want = {name: f"{line.partition(' | ')[0]} | {' '.join(sorted(line.partition(' | ')[2].split()))}"
            for name, line in case.groups.items()}  # fmt: skip
    assert {g.name: written(g) for g in groups} == want
    for seed in range(3):
        result = cut_groups(groups, random_plan(groups, seed), dtype=torch.float64)
        assert result.verification.max_relative_error <= 1e-10
    half = plan_of(groups, torch.cat([torch.from_numpy(g.atoms[: g.units // 2]) for g in groups]).numpy())
    assert cut_groups(groups, half).verification.kind == ("restricted" if case.restricted else "masked")
