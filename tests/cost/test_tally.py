"""Costs that are brought up to date by what changes are the costs that are counted anew."""

from __future__ import annotations

import numpy as np
import pytest

import secateur as sc
from secateur.cost import Fit, FittedLatency, FittedTerm, Tally
from tests.zoo import ZOO, ready


@pytest.mark.parametrize("name", ZOO)
def test_units_come_and_go(name: str) -> None:
    groups = ready(name)[1]
    costs = [kind(groups.graph).bind(groups) for kind in (sc.Params, sc.Macs)]
    coupling, rng = groups.coupling, np.random.default_rng(0)
    atoms = np.concatenate([np.empty(0, dtype=np.int64), *(g.atoms for g in groups)])
    if not len(atoms):
        return
    dead = set(rng.permutation(atoms)[: len(atoms) // 2].tolist())
    tally = Tally(coupling, costs)

    def counted() -> tuple[float, ...]:
        alive = coupling.alive(np.array(sorted(dead), dtype=np.int64))
        assert (alive == tally.alive).all()
        return tuple(cost.of(alive) for cost in costs)

    tally.start(coupling.alive(np.array(sorted(dead), dtype=np.int64)))
    assert tally.costs == counted()
    for turn in range(12):
        some = rng.permutation(atoms)[: rng.integers(1, 6)]
        lives = turn % 3 != 0
        before = tally.costs
        change = tally.with_atoms(some) if lives else tally.without_atoms(some)
        assert tally.costs == before  # asking changes nothing
        if turn % 4 == 3:
            continue
        tally.take(change)
        dead = dead - set(some.tolist()) if lives else dead | set(some.tolist())
        assert tally.costs == change.costs == counted()


@pytest.mark.parametrize("quantum", [1, 4, 8])
def test_lengths_rounded_up_to_blocks(quantum: int) -> None:
    """Step by step and anew, a term in blocks costs the same, and as much as a full block."""
    groups = ready("plain")[1]
    group = max(groups, key=lambda g: g.units)
    name, axis = group.members[0].param, group.members[0].axis
    fit = Fit((FittedTerm("x", 2.0, ((name, 0, axis),), (quantum,)),), 0.0, 0.0, 1, {})
    cost = FittedLatency(groups.graph, fit).bind(groups)
    tally = Tally(groups.coupling, [cost])
    tally.start(np.ones(groups.coupling.facts.size, dtype=bool))
    length = len(groups.coupling.state_axes[name][axis])
    assert tally.costs[0] == cost.dense == 2.0 * (-(-length // quantum) * quantum)
    tally.take(tally.without_atoms(group.atoms[:1].reshape(-1)))
    assert tally.costs[0] == cost.of(tally.alive)
    left = int(groups.coupling.keep(groups.coupling.state_axes[name][axis], tally.alive).sum())
    assert tally.costs[0] == 2.0 * (-(-left // quantum) * quantum) and left < length


def test_a_ragged_term_costs_nothing_where_blocks_are_full() -> None:
    groups = ready("plain")[1]
    group = max(groups, key=lambda g: g.units)
    name, axis = group.members[0].param, group.members[0].axis
    length = len(groups.coupling.state_axes[name][axis])
    fit = Fit((FittedTerm("x", 3.0, ((name, 0, axis),), (length,), True),), 0.0, 0.0, 1, {})
    cost = FittedLatency(groups.graph, fit).bind(groups)
    tally = Tally(groups.coupling, [cost])
    tally.start(np.ones(groups.coupling.facts.size, dtype=bool))
    assert tally.costs[0] == cost.dense == 0.0
    tally.take(tally.without_atoms(group.atoms[:1].reshape(-1)))
    left = int(groups.coupling.keep(groups.coupling.state_axes[name][axis], tally.alive).sum())
    assert tally.costs[0] == cost.of(tally.alive) == 3.0 * left and 0 < left < length
