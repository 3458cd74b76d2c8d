"""Plans in which each head, or each group of a convolution, keeps units of its own."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from secateur.cost import Params
from secateur.coupling import Groups, find_groups
from secateur.errors import PlanError
from secateur.graph import trace
from secateur.planning import Blocks, Budget, Plan, Rounding, allocate, choice_of, dead_atoms, plan_of
from secateur.scoring import Magnitude, score
from secateur.surgery import cut, cut_groups
from secateur.task import call
from tests.zoo import ZOO, random_free_plan, random_plan, ready

FREE = [n for n in ZOO if ready(n)[1].contexts]


def orders_of(groups: Groups, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        n: rng.permuted(np.tile(np.arange(c.shape[1]), (c.shape[0], 1)), axis=1)
        for n, c in groups.contexts.items()
    }


@pytest.mark.parametrize("name", FREE)
@given(seed=st.integers(0, 10**6))
def test_a_plan_comes_back_from_its_indices_and_from_json(name: str, seed: int) -> None:
    groups = ready(name)[1]
    plan = random_free_plan(groups, seed)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    choice = choice_of(groups, plan)
    assert plan_of(groups, choice.dead, choice.orders) == plan
    for order in choice.orders.values():
        assert (np.sort(order, axis=1) == np.arange(order.shape[1])).all()


def test_each_head_keeps_indices_of_its_own() -> None:
    groups = ready("vit_chunk")[1]
    name = "qkv.weight:0#3"  # the dimensions of values
    order = np.array([[2, 1, 0, 3], [0, 3, 1, 2], [1, 2, 0, 3], [3, 2, 1, 0]])
    plan = plan_of(groups, groups[name].atoms[2:], {name: order})
    kept = (1, 2, 4, 7, 9, 10, 14, 15)
    assert plan.kept == {
        "qkv.weight": {0: tuple(range(32)) + tuple(32 + i for i in kept)},
        "qkv.bias": {0: tuple(range(32)) + tuple(32 + i for i in kept)},
        "proj.weight": {1: kept},
    }
    assert plan.permuted == {}
    module = cut_groups(groups, plan, dtype=torch.float64).module
    own = ready("vit_chunk")[0].state_dict()
    assert torch.equal(module.get_parameter("proj.weight"), own["proj.weight"][:, list(kept)])


def test_each_group_of_a_convolution_keeps_channels_of_its_own() -> None:
    model, groups = ready("grouped")
    name = "reduce.weight:0"
    order = np.array([[2, 1, 0, 3], [0, 3, 1, 2], [1, 2, 0, 3], [3, 2, 1, 0]])
    plan = plan_of(groups, groups[name].atoms[2:], {name: order})
    kept = (1, 2, 4, 7, 9, 10, 14, 15)
    assert plan.kept == {"reduce.weight": {0: kept}, "reduce.bias": {0: kept}, "conv.weight": {1: (0, 1)}}
    assert plan.permuted == {"conv.weight": {1: Blocks(0, 8, ((1, 2), (0, 3), (1, 2), (2, 3)))}}
    weight = cut_groups(groups, plan, dtype=torch.float64).module.get_parameter("conv.weight")
    own = model.get_parameter("conv.weight")
    for block, indices in enumerate(plan.permuted["conv.weight"][1].indices):
        rows = slice(8 * block, 8 * block + 8)
        assert torch.equal(weight[rows], own[rows][:, list(indices)])


@pytest.mark.parametrize("name", FREE)
@pytest.mark.parametrize("seed", range(3))
def test_taking_by_the_plan_is_what_a_cut_does(name: str, seed: int) -> None:
    model, groups = ready(name)
    plan = random_free_plan(groups, seed)
    result = cut_groups(groups, plan)
    for key, tensor in result.module.state_dict().items():
        taken = plan.take(key, model.state_dict()[key])
        assert taken.shape == tensor.shape
        if key not in result.prepared.scaled:
            assert torch.equal(taken, tensor)


@pytest.mark.parametrize("name", FREE)
def test_the_same_units_everywhere_are_written_as_ever(name: str) -> None:
    """Whatever order they are named in."""
    groups = ready(name)[1]
    rng = np.random.default_rng(0)
    orders = {n: np.tile(rng.permutation(c.shape[1]), (c.shape[0], 1)) for n, c in groups.contexts.items()}
    dead = np.concatenate([g.atoms[g.units // 2 + 1 :] for g in groups])
    plain = np.concatenate(
        [g.atoms[orders[g.name][0] if g.name in orders else slice(None)][g.units // 2 + 1 :] for g in groups]
    )
    plan = plan_of(groups, dead, orders)
    assert plan == plan_of(groups, plain)
    assert not plan.permuted and not choice_of(groups, plan).orders
    assert sorted(dead_atoms(groups, plan).tolist()) == sorted(plain.tolist())


@pytest.mark.parametrize("name", ["grouped", "vit_chunk", "gqa_enable", "group_norm"])
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kinds", [(random_free_plan, random_free_plan), (random_plan, random_free_plan),
                                   (random_free_plan, random_plan)])  # fmt: skip
def test_one_plan_after_another_is_both_at_once(name: str, seed: int, kinds: tuple) -> None:  # type: ignore[type-arg]
    model, groups = ready(name)
    inputs = ZOO[name].inputs(2)
    first = kinds[0](groups, seed)
    small = cut_groups(groups, first).module
    again = find_groups(trace(small, inputs))
    second = kinds[1](again, seed + 1)
    twice = cut_groups(again, second).module
    both = first.then(second)
    assert Plan.from_json(both.to_json()) == both
    once = cut(model, both, inputs)
    state = once.state_dict()
    assert {k: v.shape for k, v in twice.state_dict().items()} == {k: v.shape for k, v in state.items()}
    for key, tensor in twice.state_dict().items():
        torch.testing.assert_close(tensor, state[key], rtol=1e-6, atol=1e-7)
    for a, b in zip(*(torch.utils._pytree.tree_leaves(call(m, inputs)) for m in (once, twice)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


class Grid(nn.Module):
    """Heads in rows and columns, both of which can be removed: a dimension could be free within either."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(8, 96) for _ in range(3))
        self.o = nn.Linear(96, 5)
        self.rows, self.columns = nn.Parameter(torch.randn(6, 1, 1, 1)), nn.Parameter(torch.randn(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = (f(x).view(b, n, 6, 4, 4).permute(0, 2, 3, 1, 4) for f in (self.q, self.k, self.v))
        y = (q @ k.transpose(-1, -2) * self.rows * self.columns).softmax(-1) @ v
        return self.o(y.permute(0, 3, 1, 2, 4).reshape(b, n, -1))


def test_what_is_free_within_which_does_not_depend_on_how_many_are_left() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(2, 5, 8, dtype=torch.float64)
    groups = find_groups(trace(Grid().double(), inputs))
    within = {n: c.within.name for n, c in groups.contexts.items()}
    assert len(within) == 2
    (context,) = set(within.values())
    first = plan_of(groups, groups[context].atoms[2:])  # fewer are left than of the other
    again = find_groups(trace(cut_groups(groups, first).module, inputs))
    assert {n: c.within.name for n, c in again.contexts.items()} == within
    second = plan_of(again, np.concatenate([again[n].atoms[2:] for n in within]), orders_of(again, 0))
    assert choice_of(again, second).orders.keys() == within.keys()
    twice, once = cut_groups(again, second).module, cut_groups(groups, first.then(second)).module
    for name, tensor in twice.state_dict().items():
        torch.testing.assert_close(once.state_dict()[name], tensor, rtol=1e-14, atol=0)


def with_kept(plan: Plan, param: str, axis: int, indices: tuple[int, ...]) -> Plan:
    kept = {n: dict(axes) for n, axes in plan.kept.items()}
    kept[param][axis] = indices
    return dataclasses.replace(plan, kept=kept)


def free_plan(name: str, group: str) -> tuple[Groups, Plan]:
    groups = ready(name)[1]
    order = np.array([[2, 1, 0, 3], [0, 3, 1, 2], [1, 2, 0, 3], [3, 2, 1, 0]])
    return groups, plan_of(groups, groups[group].atoms[2:], {group: order})


def test_heads_that_keep_different_numbers() -> None:
    groups, plan = free_plan("vit_chunk", "qkv.weight:0#3")
    first, *rest = plan.kept["proj.weight"][1]
    changed = with_kept(plan, "proj.weight", 1, (0, first, *rest))
    with pytest.raises(
        PlanError, match=r"keeps 2 to 3 units of 'qkv\.weight:0#3' in the units of 'qkv\.weight:0'"
    ):
        cut_groups(groups, changed)


def test_parameters_that_keep_different_dimensions_of_a_head() -> None:
    groups, plan = free_plan("vit_chunk", "qkv.weight:0#3")
    kept = plan.kept["proj.weight"][1]
    assert kept[:2] == (1, 2)
    with pytest.raises(PlanError, match=r"keeps 2 to 3 units of 'qkv\.weight:0#3'"):
        cut_groups(groups, with_kept(plan, "proj.weight", 1, (0, 1, *kept[2:])))


@pytest.mark.parametrize(
    "blocks",
    [
        Blocks(0, 8, ((1, 2), (0, 3), (1, 2), (1, 3))),  # other channels
        Blocks(0, 8, ((2, 1), (0, 3), (1, 2), (2, 3))),  # another order
        Blocks(0, 8, ((1, 2), (0, 3), (1, 2))),  # a block less
        Blocks(1, 8, ((1, 2), (0, 3), (1, 2), (2, 3))),  # along another axis
        Blocks(0, 4, ((1, 2), (0, 3), (1, 2), (2, 3))),  # blocks of another size
    ],
)
def test_blocks_that_are_not_what_the_channels_say(blocks: Blocks) -> None:
    groups, plan = free_plan("grouped", "reduce.weight:0")
    changed = dataclasses.replace(plan, permuted={"conv.weight": {1: blocks}})
    with pytest.raises(PlanError, match=r"splits what is coupled, first at 'conv\.weight'"):
        cut_groups(groups, changed)


def test_blocks_that_are_missing_or_of_something_else() -> None:
    groups, plan = free_plan("grouped", "reduce.weight:0")
    with pytest.raises(PlanError):
        cut_groups(groups, dataclasses.replace(plan, permuted={}))
    strange = {**plan.permuted, "expand.weight": {1: Blocks(0, 3, ((0,),))}}
    with pytest.raises(PlanError, match=r"splits what is coupled, first at 'expand\.weight'"):
        cut_groups(groups, dataclasses.replace(plan, permuted=strange))


def test_altered_blocks_in_a_file() -> None:
    data = free_plan("grouped", "reduce.weight:0")[1].to_json()
    data["permuted"]["conv.weight"]["1"]["indices"][0] = [0, 3]
    with pytest.raises(PlanError, match="digest does not match"):
        Plan.from_json(data)


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"conv.weight": {1: (0, 2)}}, "keeps index 2 of 'conv.weight' axis 1, where the first leaves 2"),
        ({"conv.weight": {0: (0, 32)}}, "keeps index 32 of 'conv.weight' axis 0"),
    ],
)
def test_a_second_plan_for_something_larger(
    second: dict[str, dict[int, tuple[int, ...]]], words: str
) -> None:
    plan = free_plan("grouped", "reduce.weight:0")[1]
    with pytest.raises(PlanError, match=words):
        plan.then(Plan("g", second))


def test_a_second_plan_with_other_blocks() -> None:
    plan = free_plan("grouped", "reduce.weight:0")[1]
    second = Plan("g", {"conv.weight": {1: (0,)}}, permuted={"conv.weight": {1: Blocks(0, 8, ((0,), (1,)))}})
    with pytest.raises(PlanError, match=r"keeps 'conv\.weight' axis 1 in 2 blocks, where the first leaves 4"):
        plan.then(second)


@pytest.mark.parametrize("name", FREE)
def test_what_is_kept_weighs_at_least_as_much(name: str) -> None:
    """The squares of all weights that stay when one group loses half of its units."""
    model, groups = ready(name)
    parameters = dict(model.named_parameters())
    for group in groups.contexts:
        retained = {}
        for cells in (True, False):
            scores = score(model, groups, Magnitude(), cells=cells)
            best = np.argsort(-scores.aligned(group), kind="stable")
            orders = {group: scores.orders[group]} if cells else {}
            plan = plan_of(groups, groups[group].atoms[best[groups[group].units // 2 :]], orders)
            retained[cells] = sum(
                float(plan.take(n, p.detach().double() ** 2).sum())
                for n, p in parameters.items()
                if n in plan.kept
            )
        assert retained[True] >= retained[False] * (1 - 1e-12) > 0


def lopsided() -> tuple[torch.nn.Module, Groups]:
    """Every head uses two dimensions of its own, the others are noise."""
    model = ZOO["separate"].model()
    use = [(0, 1), (1, 2), (2, 3), (0, 3)]
    with torch.no_grad():
        for head, dims in enumerate(use):
            for d in set(range(4)) - set(dims):
                for part in (model.q, model.k, model.v):
                    part.weight[4 * head + d] *= 1e-3
                    part.bias[4 * head + d] *= 1e-3
                model.o.weight[:, 4 * head + d] *= 1e-3
    return model, find_groups(trace(model, ZOO["separate"].inputs(2)))


def test_heads_that_use_other_dimensions_keep_them() -> None:
    model, groups = lopsided()
    x = ZOO["separate"].inputs(4)
    error = {}
    weight = {}
    for cells in (True, False):
        scores = score(model, groups, Magnitude(), cells=cells)
        dead = np.concatenate(
            [groups[n].atoms[np.argsort(-scores.aligned(n), kind="stable")[2:]] for n in groups.contexts]
        )
        plan = plan_of(groups, dead, scores.orders)
        small = cut_groups(groups, plan, dtype=torch.float64).module
        with torch.no_grad():
            error[cells] = float((small(x) - model(x)).abs().max() / model(x).abs().max())
        weight[cells] = float(plan.take("v.weight", model.get_parameter("v.weight").detach()).square().sum())
    assert weight[True] > 1.5 * weight[False]
    assert error[True] < 1e-2 < 0.1 < error[False]


def test_allocation_chooses_in_each_head_by_default() -> None:
    model, groups = lopsided()
    scores = score(model, groups, Magnitude())
    plan = allocate(scores, keep=0.5, rounding=Rounding(1))
    heads = {i // 4 for i in plan.kept["v.weight"][0]}
    kept = {h: [i % 4 for i in plan.kept["v.weight"][0] if i // 4 == h] for h in heads}
    assert kept == {h: list([(0, 1), (1, 2), (2, 3), (0, 3)][h]) for h in heads} and len(heads) == 2
    smaller = allocate(scores, [Params(groups.graph)], Budget(params="0.5x"))
    assert cut_groups(groups, smaller).verification.max_relative_error < 1e-4
