"""What must hold of every network: the properties, each by name, on one traced network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from secateur.coupling import Groups, find_groups
from secateur.graph import trace
from secateur.planning import Plan, plan_of
from secateur.surgery import cut_groups
from tests.random_networks.network import Grown, Network
from tests.random_networks.oracle import masked, plain_attention

TOLERANCE = 1e-9


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
    """Removes a random share of the units of every group, random ones, never all."""
    dead = [np.empty(0, dtype=np.int64)]
    for group in groups:
        count = round(rng.uniform(least, most) * group.units)
        dead.append(rng.permutation(group.atoms)[: min(max(count, 1), group.units - 1)])
    return plan_of(groups, np.concatenate(dead))


def identity(s: Subject, rng: np.random.Generator) -> None:
    """Keeping everything changes nothing at all."""
    result = cut_groups(s.groups, Plan(s.groups.graph.fingerprint, {}))
    if result.verification.max_relative_error != 0.0:
        raise Broken("identity", f"error {result.verification.max_relative_error}")
    own = s.groups.graph.module.state_dict()
    if not all(torch.equal(own[n], t) for n, t in result.module.state_dict().items()):
        raise Broken("identity", "a tensor changed")
    inputs = s.network.examples(3, seed=7)
    error = apart(run(result.module, inputs), run(s.network, inputs))
    if error > 1e-10:
        raise Broken("identity", f"the outputs differ from the user's module by {error:.2g}")


def equals_masked(s: Subject, rng: np.random.Generator) -> None:
    """A random cut equals the masked original in lockstep, and the user's own module as the oracle masks it."""
    for least, most in ((0.3, 0.5), (0.0, 1.0)):
        plan = random_plan(s.groups, rng, least, most)
        result = cut_groups(s.groups, plan)
        s.error = max(s.error, result.verification.max_relative_error)
        if result.verification.max_relative_error > TOLERANCE:
            raise Broken("lockstep", f"error {result.verification.max_relative_error:.2g}")
        if Plan.from_json(plan.to_json()) != plan:
            raise Broken("json", "the plan that was read is another")
        inputs = s.network.examples(3, seed=int(rng.integers(1 << 30)))
        found = run(result.module, inputs)
        expected = masked(s.network, plan)
        if expected is not None:
            s.judged = True
            error = apart(found, run(expected, inputs))
            if error > 1e-7:
                raise Broken("oracle", f"the cut differs from the user's masked module by {error:.2g}")


PROPERTIES: dict[str, Callable[[Subject, np.random.Generator], None]] = {
    "identity": identity,
    "equals_masked": equals_masked,
}


def check(grown: Grown, properties: tuple[str, ...] = tuple(PROPERTIES)) -> Subject:
    """Checks a network against some of the properties.

    Raises:
        Broken: naming the property, or the error that was raised on the way.
    """
    try:
        s = subject(grown)
    except Exception as error:
        raise Broken(type(error).__name__, _first_line(error)) from error
    for k, name in enumerate(properties):
        try:
            PROPERTIES[name](s, np.random.default_rng([grown.seed, k]))
        except Broken:
            raise
        except Exception as error:
            raise Broken(f"{name}, {type(error).__name__}", _first_line(error)) from error
    return s


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:300]
