"""What a width costs depends on the others: the solver finds what a fixed price for each unit does not."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

import secateur as sc
from secateur.cost import FittedLatency
from secateur.cost.fitted import Fit, FittedTerm
from secateur.planning import Problem, dead_atoms
from secateur.planning.allocate import _limits
from secateur.planning.spend import kept, spend


class Taught(sc.Criterion):
    """Comparable saliencies, given by group."""

    needs_weights = False
    comparable = True

    def __init__(self, values: dict[str, np.ndarray]) -> None:
        self.values = values

    def weigh(self, tensors, run):
        return {g.name: self.values[g.name] for g in run.groups}


def small(seed: int) -> tuple[nn.Module, sc.Groups, sc.Scores]:
    torch.manual_seed(seed)
    layers = [
        nn.Linear(6, 8),
        nn.ReLU(),
        nn.Linear(8, 8),
        nn.ReLU(),
        nn.Linear(8, 8),
        nn.ReLU(),
        nn.Linear(8, 4),
    ]
    model = nn.Sequential(*layers)
    groups = sc.find_groups(sc.trace(model, torch.randn(2, 6)))
    rng = np.random.default_rng(seed)
    values = {g.name: np.sort(rng.lognormal(size=g.units))[::-1] for g in groups}
    return model, groups, sc.score(model, groups, Taught(values))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_it_comes_near_the_best_there_is(seed: int, share: float) -> None:
    _, groups, scores = small(seed)
    limits = _limits(groups, [sc.Macs(groups.graph)], sc.Budget(macs=f"{share}x"))
    problem = Problem(scores, sc.Rounding(1), None, limits)
    steps = np.ones(len(problem.bundles), dtype=np.int64)
    found = spend(problem, limits, steps)
    assert found is not None and limits[0].cost.of(problem.alive(found)) <= limits[0].most
    best = max(
        kept(problem, np.array(widths))
        for widths in product(*(range(1, int(u) + 1) for u in problem.units))
        if limits[0].cost.of(problem.alive(np.array(widths))) <= limits[0].most
    )
    assert kept(problem, found) >= 0.93 * best


def test_two_limits_hold_together() -> None:
    _, groups, scores = small(1)
    costs = [sc.Macs(groups.graph), sc.Params(groups.graph)]
    plan = sc.allocate(scores, costs, sc.Budget(macs="0.5x", params="0.55x"), rounding=sc.Rounding(1))
    alive = groups.coupling.alive(dead_atoms(groups, plan))
    used = [c.bind(groups).of(alive) / c.bind(groups).dense for c in costs]
    assert used[0] <= 0.5 and used[1] <= 0.55 and max(used[0] / 0.5, used[1] / 0.55) >= 0.97


def test_blocks_that_a_runtime_computes_in_are_filled() -> None:
    """Rounded up to fours, a width that does not fill its last block costs as much as one that does."""
    _, groups, scores = small(2)
    terms = [FittedTerm(g.name, 1.0, ((g.members[0].param, 0, g.members[0].axis),), (4,)) for g in groups]
    cost = FittedLatency(groups.graph, Fit(tuple(terms), 0.0, 0.0, 1, {}))
    plan = sc.allocate(scores, [cost], sc.Budget(latency="0.7x"), rounding=sc.Rounding(1))
    dead = set(dead_atoms(groups, plan).tolist())
    widths = [sum(a not in dead for a in g.atoms.tolist()) for g in groups]
    assert all(w % 4 == 0 for w in widths) and sum(widths) == 16


def test_floors_that_are_over_a_limit_are_said() -> None:
    _, groups, scores = small(0)
    limits = _limits(groups, [sc.Macs(groups.graph)], sc.Budget(macs="0.01x"))
    problem = Problem(scores, sc.Rounding(1), None, limits)
    assert spend(problem, limits, np.ones(len(problem.bundles), dtype=np.int64)) is None
