"""Properties of every network, on networks that Hypothesis composes; the benchmark does the same ten thousand times."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from torch import nn

from secateur.coupling import find_groups
from secateur.graph import trace
from tests.random_networks import Network, drawn, from_numbers, from_seed, grow, replayed
from tests.random_networks.block import Code, rows_of
from tests.random_networks.checks import PROPERTIES, check
from tests.random_networks.exotic import looked_up
from tests.random_networks.rows import linear
from tests.random_networks.scope import Made, Maker, Scope
from tests.random_networks.shapes import ordered

# Making a failure smaller takes a trace for each try: some hundred tries, then what there is is shown.
settings.register_profile("networks", parent=settings.get_profile("secateur"), max_examples=200,
                          suppress_health_check=list(HealthCheck))  # fmt: skip
CHEAP = [name for name in PROPERTIES if name not in ("two_steps", "permuting")]


@settings(settings.get_profile("networks"))
@given(st.data())
def test_a_cut_equals_the_masked_original(data: st.DataObject) -> None:
    """In lockstep and by the oracle; all else that needs no second trace on the way."""
    grown = grow(drawn(data.draw), seed=0)
    note(grown.network.recipe())
    check(grown, CHEAP)


@settings(settings.get_profile("networks"), max_examples=15)
@given(st.integers(0, 1 << 30))
def test_plans_compose_and_scores_follow(seed: int) -> None:
    """Properties that need a second trace."""
    grown = from_seed(seed)
    note(grown.network.recipe())
    check(grown, ["two_steps", "permuting"])


def test_networks_are_rich_enough() -> None:
    """What the properties are worth: most networks have something to cut, and the oracle can judge most of these."""
    found = [check(from_seed(seed), ["equals_masked"]) for seed in range(40)]
    assert np.mean([len(s.groups) > 1 for s in found]) > 0.7
    assert np.mean([s.judged for s in found]) > 0.6
    assert {s.network.fixed for s in found} == {True, False}


@pytest.mark.parametrize("seed", range(5))
def test_a_network_is_the_numbers_it_was_grown_from(seed: int) -> None:
    grown = from_seed(seed)
    again = from_numbers(grown.numbers, seed)
    assert again.network.recipe() == grown.network.recipe()
    for a, b in zip(grown.network.parameters(), again.network.parameters(), strict=True):
        assert bool((a == b).all())


def test_any_list_of_numbers_is_a_network() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        network = from_numbers(rng.integers(0, 9, rng.integers(0, 60)).tolist()).network
        network(*network.examples())


@pytest.mark.parametrize("maker", [ordered, looked_up])
@pytest.mark.parametrize("choice", range(8))
def test_what_a_block_says_is_fixed_is_locked(maker: Maker, choice: int) -> None:
    """The oracle takes it for whole."""
    inputs = rows_of(8, fixed=(True,))
    first = linear(replayed([]), Scope([inputs], 0, []))
    assert first is not None
    made = maker(replayed([choice]), Scope([inputs, *first.outputs], 1, [first]))
    assert made is not None
    (out,) = made.outputs
    head = Made(Code("m.head(x)", head=nn.Linear(out.features, 3)), (2,), (rows_of(3),))
    network = Network([inputs], [first, made, head], [3], named=False).double().eval()
    groups = find_groups(trace(network, network.examples()))
    locked = not any(m.param == "blocks.0.fc.weight" and m.axis == 0 for g in groups for m in g.members)
    assert locked == out.fixed[-1]
