"""A network that is to be checked: traced once, with its groups, for every property to look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from secateur.coupling import Groups, find_groups
from secateur.graph import trace
from secateur.planning import Plan, plan_of
from tests.random_networks.network import Grown, Network
from tests.random_networks.oracle import plain_attention


class Broken(AssertionError):
    """A property does not hold.

    Args:
        name: of the property, or of the step that failed.
        message: what happened.
    """

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name


@dataclass
class Subject:
    """A network, what was found in it, and what has been learnt of it so far."""

    grown: Grown
    groups: Groups
    error: float = 0.0
    judged: bool = False

    @property
    def network(self) -> Network:
        return self.grown.network


def subject(grown: Grown) -> Subject:
    """Traces a network and finds its groups."""
    graph = trace(grown.network, grown.network.examples())
    return Subject(grown, find_groups(graph))


def leaves(outputs: Any) -> list[Tensor]:
    """The tensors of an output."""
    return [t for t in torch.utils._pytree.tree_leaves(outputs) if isinstance(t, Tensor)]


@torch.no_grad()
def run(module: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """A module's outputs in evaluation mode, on copies of the inputs."""
    with plain_attention():
        return leaves(module(*(t.clone() for t in inputs)))


def apart(found: list[Tensor], expected: list[Tensor]) -> float:
    """The largest difference relative to the largest value, over all outputs."""
    if [t.shape for t in found] != [t.shape for t in expected]:
        return float("inf")
    worst = 0.0
    for a, b in zip(found, expected, strict=True):
        if b.numel() and not torch.equal(a, b):
            error = float((a.double() - b.double()).abs().max()) / max(float(b.abs().max()), 1e-300)
            worst = max(worst, error) if error == error else float("inf")
    return worst


def random_plan(groups: Groups, rng: np.random.Generator, least: float = 0.3, most: float = 0.5) -> Plan:
    """Removes a random share of the units of every group, random ones, never all.

    Of half the groups that may choose anew in each head, or in each group of a convolution, other ones in each.
    """
    dead, orders = [np.empty(0, dtype=np.int64)], {}
    for group in groups:
        count = round(rng.uniform(least, most) * group.units)
        dead.append(rng.permutation(group.atoms)[: min(max(count, 1), group.units - 1)])
        if group.name in groups.contexts and rng.integers(2):
            contexts, units = groups.contexts[group.name].shape
            orders[group.name] = rng.permuted(np.tile(np.arange(units), (contexts, 1)), axis=1)
    return plan_of(groups, np.concatenate(dead), orders)
