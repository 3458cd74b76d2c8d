"""Allocation: within the budget and close to it, or infeasible with the nearest possible; never an empty axis."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from secateur.cost import Macs, Params
from secateur.coupling import Groups, find_groups
from secateur.errors import Infeasible, RecipeError
from secateur.graph import trace
from secateur.planning import Budget, Care, Global, Plan, Rounding, Uniform, allocate, dead_atoms, plan_of
from secateur.scoring import Magnitude, Random, Scores, score
from tests.zoo import ZOO, ready


@cache
def wide() -> Scores:
    """Layers wide enough that one unit is far less than three per cent of anything."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 48, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(48, 64), nn.ReLU(), nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 10),
    )  # fmt: skip
    return score(model, find_groups(trace(model, torch.randn(2, 3, 8, 8))), Magnitude())


@cache
def scored(name: str) -> Scores:
    return score(*ready(name), Random(1))


def costs(groups: Groups) -> list[Params | Macs]:
    return [Params(groups.graph), Macs(groups.graph)]


def spent(scores: Scores, plan: Plan) -> dict[str, float]:
    """Share of the dense cost that a plan leaves, by kind."""
    groups = scores.groups
    everything = np.ones(groups.coupling.facts.size, dtype=bool)
    alive = groups.coupling.alive(dead_atoms(groups, plan))
    bound = [c.bind(groups) for c in costs(groups)]
    return {b.kind: b.of(alive) / b.of(everything) for b in bound}


def widths(scores: Scores, plan: Plan) -> dict[str, int]:
    dead = set(dead_atoms(scores.groups, plan).tolist())
    return {g.name: sum(a not in dead for a in g.atoms.tolist()) for g in scores.groups}


def room(scores: Scores, plan: Plan, kind: str, asked: float) -> bool:
    """Whether one more unit of some group would still fit."""
    dead = dead_atoms(scores.groups, plan)
    gone = [next((a for a in g.atoms.tolist() if a in set(dead.tolist())), None) for g in scores.groups]
    more = [plan_of(scores.groups, dead[dead != atom]) for atom in gone if atom is not None]
    return any(spent(scores, wider)[kind] <= asked for wider in more)


allocators = st.sampled_from([None, Uniform(), Global()])
cares = st.sampled_from([None, Care(), Care(0.0, 0.0), Care(0.3, 1.0)])


@given(
    st.sampled_from(["params", "macs"]),
    st.floats(0.05, 1.0),
    allocators,
    st.sampled_from([1, 4, 8, 16]),
    cares,
)
def test_a_budget_is_attained_or_infeasible(
    kind: str, share: float, allocator: Uniform | Global | None, multiple: int, care: Care | None
) -> None:
    scores = wide()
    budget = Budget(**{kind: f"{share:.4f}x"})
    rounding = Rounding(multiple)
    asked = float(f"{share:.4f}")
    try:
        plan = allocate(
            scores, costs(scores.groups), budget, allocator=allocator, rounding=rounding, care=care
        )
    except Infeasible as error:
        assert error.nearest is not None and error.nearest > asked
        return
    assert spent(scores, plan)[kind] <= asked
    assert spent(scores, plan)[kind] >= 0.97 * asked or not room(scores, plan, kind, asked)
    assert min(widths(scores, plan).values()) >= 1


@given(st.floats(0.2, 1.0), st.floats(0.2, 1.0))
def test_two_budgets_hold_and_the_tighter_is_attained(params: float, macs: float) -> None:
    scores = wide()
    asked = {"params": round(params, 3), "macs": round(macs, 3)}
    plan = allocate(
        scores, costs(scores.groups), Budget(params=f"{asked['params']}x", macs=f"{asked['macs']}x")
    )
    found = spent(scores, plan)
    assert all(found[k] <= asked[k] for k in asked)
    assert max(found[k] / asked[k] for k in asked) >= 0.97


def test_an_absolute_budget() -> None:
    scores = wide()
    plan = allocate(scores, costs(scores.groups), Budget(params="10K"))
    total = sum(p.numel() for p in scores.groups.graph.module.parameters())
    assert 9_700 <= spent(scores, plan)["params"] * total <= 10_000


@pytest.mark.parametrize("kind", ["params", "macs"])
@pytest.mark.parametrize("allocator", [Uniform(), Global()], ids=str)
def test_infeasible_names_the_nearest_which_can_be_had(kind: str, allocator: Uniform | Global) -> None:
    scores = wide()
    with pytest.raises(
        Infeasible, match=rf"{kind}=0.0001x cannot be met.*nearest possible is {kind}=0\.\d+x"
    ) as caught:
        allocate(scores, costs(scores.groups), Budget(**{kind: "0.0001x"}), allocator=allocator)
    assert caught.value.exit_status == 4
    assert caught.value.nearest is not None
    plan = allocate(scores, costs(scores.groups), Budget(**{kind: f"{caught.value.nearest * 1.0001:.8f}x"}))
    assert spent(scores, plan)[kind] == pytest.approx(caught.value.nearest)


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("keep", [0.01, 0.3, 0.5, 0.75])
def test_a_share_of_the_units(name: str, keep: float) -> None:
    scores = scored(name)
    plan = allocate(scores, keep=keep)
    for group in scores.groups:
        kept = widths(scores, plan)[group.name]
        assert 1 <= kept <= group.units
        if group.units >= 4:
            assert abs(kept - keep * group.units) <= Rounding().step(group)
    for name_, axes in plan.kept.items():
        assert all(indices for indices in axes.values()), name_


def test_half_of_every_group() -> None:
    assert widths(wide(), allocate(wide(), keep=0.5)) == {
        "0.weight:0": 16, "2.weight:0": 24, "6.weight:0": 32, "8.weight:0": 24,
    }  # fmt: skip
    exact = allocate(wide(), keep=0.5, rounding=Rounding(1))
    assert widths(wide(), exact) == {"0.weight:0": 12, "2.weight:0": 24, "6.weight:0": 32, "8.weight:0": 20}


def test_everything() -> None:
    assert allocate(wide(), keep=1.0).kept == {}
    assert allocate(wide(), costs(wide().groups), Budget(params="1x")).kept == {}


def test_the_most_salient_units_stay() -> None:
    scores = wide()
    plan = allocate(scores, keep=0.5)
    for group in scores.groups:
        dead = np.isin(group.atoms, dead_atoms(scores.groups, plan))
        values = scores.values[group.name]
        assert values[~dead].min() >= values[dead].max()


def test_global_ranks_units_across_groups() -> None:
    """With saliencies that may be compared, units of an unimportant group go first."""
    base = wide()
    values = {n: np.full_like(v, 1.0) for n, v in base.values.items()}
    values["6.weight:0"] = np.full(64, 0.001)
    scores = Scores(base.groups, values, "by hand", comparable=True)
    plan = allocate(scores, costs(base.groups), Budget(params="0.9x"), care=Care(0.1, 0.5))
    kept = widths(scores, plan)
    assert kept["6.weight:0"] < 64
    assert kept["0.weight:0"] == 24 and kept["2.weight:0"] == 48 and kept["8.weight:0"] == 40


def test_first_and_last_layer_keep_half_while_they_can() -> None:
    base = wide()
    values = {
        n: np.full_like(v, 1e-6 if n in ("0.weight:0", "8.weight:0") else 1.0) for n, v in base.values.items()
    }
    scores = Scores(base.groups, values, "by hand", comparable=True)
    kept = widths(scores, allocate(scores, costs(base.groups), Budget(params="0.6x")))
    assert kept["0.weight:0"] >= 12 and kept["8.weight:0"] >= 20
    # The floors give way where the budget cannot be met otherwise.
    kept = widths(scores, allocate(scores, costs(base.groups), Budget(params="0.07x")))
    assert kept["0.weight:0"] < 12


def test_the_same_scores_give_the_same_plan() -> None:
    budget = Budget(macs="0.37x")
    assert allocate(wide(), costs(wide().groups), budget) == allocate(wide(), costs(wide().groups), budget)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "either keep= or a budget"),
        ({"keep": 0.5, "budget": Budget(params="0.5x")}, "not both"),
        ({"keep": 0.0}, "above 0 and at most 1"),
        ({"keep": 1.5}, "above 0 and at most 1"),
        ({"keep": float("nan")}, "above 0 and at most 1"),
        ({"budget": Budget()}, "the budget is empty"),
        (
            {"budget": Budget(latency="0.5x")},
            "no cost model was given for the budget latency=0.5x; given: macs, params",
        ),
    ],
)
def test_requests_that_make_no_sense(options: dict[str, object], words: str) -> None:
    scores = wide()
    with pytest.raises(RecipeError, match=words):
        allocate(scores, costs(scores.groups), **options)  # type: ignore[arg-type]


def test_nothing_to_prune() -> None:
    model = nn.Linear(4, 3)
    groups = find_groups(trace(model, torch.randn(2, 4)))
    scores = score(model, groups, Magnitude())
    assert allocate(scores, keep=0.5).kept == {}
    with pytest.raises(Infeasible, match=r"nearest possible is params=1x"):
        allocate(scores, [Params(groups.graph)], Budget(params="0.5x"))
