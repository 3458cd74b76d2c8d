"""Properties of every network, on networks that Hypothesis composes; the benchmark does the same ten thousand times."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from tests.random_networks import drawn, from_numbers, from_seed, grow
from tests.random_networks.checks import PROPERTIES, check

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
