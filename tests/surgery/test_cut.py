"""Cuts of the zoo: equal to the masked original, the identity where nothing goes, and models like any other after."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import secateur as sc
from secateur.coupling import find_groups
from secateur.errors import NotVerified, RequestError
from secateur.graph import trace
from secateur.planning import Plan, plan_of
from secateur.surgery import Sizes, cut, cut_groups, emit, prune, verify
from secateur.task import call
from tests.zoo import ZOO, random_plan, ready
from tests.zoo.convolutions import Plain


def leaves(outputs: object) -> list[Tensor]:
    return torch.utils._pytree.tree_leaves(outputs)


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("seed", range(4))
def test_a_random_cut_equals_the_masked_original(name: str, seed: int) -> None:
    groups = ready(name)[1]
    plan = random_plan(groups, seed)
    verification = cut_groups(groups, plan, dtype=torch.float64).verification
    assert verification.max_relative_error <= 1e-10
    assert verification.nodes > 5
    if ZOO[name].exact:
        assert verification.kind == "masked"


@pytest.mark.parametrize("name", [n for n, c in ZOO.items() if not c.exact])
def test_where_a_norm_loses_units_the_report_says_restricted(name: str) -> None:
    groups = ready(name)[1]
    dead = np.concatenate([g.atoms[: g.units // 2] for g in groups])
    verification = cut_groups(groups, plan_of(groups, dead)).verification
    assert verification.kind == "restricted" and "kept positions" in verification.reference


@pytest.mark.parametrize("name", ZOO)
def test_keeping_everything_is_the_identity(name: str) -> None:
    model, groups = ready(name)
    result = cut_groups(groups, Plan(groups.graph.fingerprint, {}))
    assert result.verification.max_relative_error == 0.0
    own = groups.graph.module.state_dict()
    assert all(torch.equal(own[k], v) for k, v in result.module.state_dict().items())
    inputs = ZOO[name].inputs(3)
    for a, b in zip(leaves(call(result.module, inputs)), leaves(call(model, inputs)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_any_batch(name: str, batch: int) -> None:
    """A sample's output does not depend on the batch, nor on the batch of the example."""
    groups = ready(name)[1]
    module = cut_groups(groups, random_plan(groups, 5)).module
    inputs = ZOO[name].inputs(7)

    def first(value: object) -> object:
        return {k: v[:batch] for k, v in value.items()} if isinstance(value, dict) else value[:batch]  # type: ignore[index]

    whole, part = leaves(call(module, inputs)), leaves(call(module, first(inputs)))  # type: ignore[arg-type]
    for a, b in zip(whole, part, strict=True):
        assert len(b) == batch
        torch.testing.assert_close(
            b, a[:batch], rtol=1e-2 if name == "half" else 1e-4, atol=1e-2 if name == "half" else 1e-5
        )


@pytest.mark.parametrize(
    "name", ["plain", "shuffle", "vit_chunk", "gqa_repeat", "tied_head", "folded", "two_inputs"]
)
def test_a_cut_model_is_traced_and_cut_again(name: str) -> None:
    groups = ready(name)[1]
    module = cut_groups(groups, random_plan(groups, 2)).module
    again = find_groups(trace(module, ZOO[name].inputs(2)))
    for seed in range(2):
        second = cut_groups(again, random_plan(again, seed), dtype=torch.float64)
        assert second.verification.max_relative_error <= 1e-10
    state = {k: tuple(v.shape) for k, v in second.module.state_dict().items()}
    assert set(state) <= set(module.state_dict())
    assert all(n <= m for k in state for n, m in zip(state[k], module.state_dict()[k].shape, strict=True))


def test_names_types_and_gradients_are_those_of_the_original() -> None:
    model = Plain().eval()
    model.conv1.weight.requires_grad_(False)
    groups = find_groups(trace(model, torch.randn(2, 3, 8, 8)))
    module = cut_groups(groups, random_plan(groups, 0)).module
    own, new = dict(model.named_parameters()), dict(module.named_parameters())
    assert set(own) == set(new)
    assert {n: p.requires_grad for n, p in own.items()} == {n: p.requires_grad for n, p in new.items()}
    assert set(dict(model.named_buffers())) == set(dict(module.named_buffers()))
    assert not {id(t) for t in model.state_dict(keep_vars=True).values()} & {
        id(t) for t in module.parameters()
    }
    assert not {t.data_ptr() for t in model.parameters()} & {t.data_ptr() for t in module.parameters()}


def test_kept_values_are_the_original_ones() -> None:
    model, groups = ready("grouped")
    plan = random_plan(groups, 3)
    state = cut_groups(groups, plan).module.state_dict()
    for name, tensor in model.state_dict().items():
        for axis, kept in plan.kept.get(name, {}).items():
            tensor = tensor.index_select(axis, torch.tensor(kept))
        assert torch.equal(state[name], tensor)


def test_tied_weights_stay_tied() -> None:
    groups = ready("tied_head")[1]
    module = cut_groups(groups, random_plan(groups, 1)).module
    assert len([p for p in module.parameters() if p.shape[0] == 20]) == 1
    ids = torch.randint(0, 20, (2, 6))
    before = module(ids)
    with torch.no_grad():
        module.get_parameter("head.weight").mul_(2.0)
    loss = module(ids).square().mean()
    loss.backward()
    assert not torch.allclose(module(ids), 2 * before)  # the embedding has doubled too, not only the head
    assert module.get_parameter("head.weight").grad is not None


class TwiceHeld(nn.Module):
    """One weight under two names, both read in the program."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8, bias=False)
        self.second = nn.Linear(8, 8, bias=False)
        self.second.weight = self.first.weight
        self.inside, self.head = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.inside(self.first(x)).relu()))


def test_a_shared_layer_stays_shared() -> None:
    groups = find_groups(trace(TwiceHeld(), torch.randn(2, 8)))
    assert any(m.param.startswith(("first", "second")) for g in groups for m in g.members)
    module = cut_groups(groups, random_plan(groups, 1), dtype=torch.float64).module
    assert len(list(module.parameters())) == 1 + 2 + 2


def test_bfloat16_stays_bfloat16() -> None:
    groups = ready("half")[1]
    module = cut_groups(groups, random_plan(groups, 1)).module
    assert {p.dtype for p in module.parameters()} == {torch.bfloat16}
    assert module(torch.randn(2, 3, 8, 8)).dtype == torch.float32


def test_a_double_model_is_checked_in_double() -> None:
    model = ZOO["plain"].model().double()
    groups = find_groups(trace(model, torch.randn(2, 3, 8, 8, dtype=torch.float64)))
    result = cut_groups(groups, random_plan(groups, 1))
    assert result.verification.max_relative_error <= 1e-12
    assert {p.dtype for p in result.module.parameters()} == {torch.float64}


def test_an_axis_may_not_become_empty() -> None:
    groups = ready("plain")[1]
    dead = groups["conv1.weight:0"].atoms
    sizes = Sizes(groups.coupling, groups.coupling.alive(dead))
    assert sizes.of(groups.coupling.state_axes["conv1.weight"][0]) == 0
    plan = Plan(groups.graph.fingerprint, {"conv1.weight": {0: ()}})
    with pytest.raises(RequestError):
        cut_groups(groups, plan)


def test_cut_by_plan_alone() -> None:
    model, groups = ready("plain")
    plan = random_plan(groups, 1)
    module = cut(model, plan, torch.randn(1, 3, 8, 8))
    expected = cut_groups(groups, plan).module
    x = torch.randn(3, 3, 8, 8)
    assert torch.equal(module(x), expected(x))


def test_deep_copies_are_independent() -> None:
    groups = ready("plain")[1]
    module = cut_groups(groups, random_plan(groups, 1)).module
    twin = copy.deepcopy(module)
    x = torch.randn(2, 3, 8, 8)
    before = module(x)
    with torch.no_grad():
        for p in twin.parameters():
            p.zero_()
    assert torch.equal(module(x), before)
    assert not twin(x).any()


class Writing(nn.Module):
    """Counts in a buffer, and writes over its input."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 6), nn.Linear(6, 3)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        x.mul_(2.0)
        h = self.a(x)
        self.mean.mul_(0.9).add_(h.mean(0) * 0.1)
        return self.b(h - self.mean)


@pytest.mark.parametrize("batch", [1, 4])
def test_a_model_that_writes_to_its_state_and_inputs(batch: int) -> None:
    model, x = Writing().eval(), torch.randn(batch, 8)
    before, given = {k: v.clone() for k, v in model.state_dict().items()}, x.clone()
    groups = find_groups(trace(model, x))
    result = cut_groups(groups, random_plan(groups, 1))
    assert result.verification.max_relative_error < 1e-5
    assert torch.equal(x, given)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert result.module.get_buffer("calls") == 0


def test_complex_values_in_between() -> None:
    groups = ready("unknown")[1]
    assert any(
        n.meta["val"].is_complex() for n in groups.graph.nodes if isinstance(n.meta.get("val"), Tensor)
    )
    emitted = emit(groups, Sizes(groups.coupling, groups.coupling.alive(groups["fc1.weight:0"].atoms[:5])))
    assert verify(groups, emitted, torch.float64).max_relative_error <= 1e-12
    with torch.no_grad():
        emitted.module.get_parameter("fc2.bias")[3] += 1.0
    with pytest.raises(NotVerified):
        verify(groups, emitted)


@pytest.mark.parametrize("options", [{"keep": 0.5}, {"params": "0.5x"}, {"macs": "0.6x"}])
def test_prune_in_one_call(options: dict[str, object]) -> None:
    model = ZOO["residual"].model()
    result = prune(model, torch.randn(1, 3, 8, 8), **options)  # type: ignore[arg-type]
    dense = sum(p.numel() for p in model.parameters())
    kept = sum(p.numel() for p in result.model.parameters())
    assert kept < dense and (options.get("params") is None or kept <= 0.5 * dense)
    assert result.model(torch.randn(3, 3, 8, 8)).shape == (3, 5)
    assert result.verification.max_relative_error < 1e-5
    assert {lock.param for lock in result.locked} >= {"fc.weight"}
    again = cut(model, result.plan, torch.randn(1, 3, 8, 8))
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(again(x), result.model(x))


def test_prune_follows_its_seed() -> None:
    from secateur.scoring import Random

    model = ZOO["plain"].model()
    plans = [
        prune(model, torch.randn(1, 3, 8, 8), keep=0.5, criterion=Random(), seed=s).plan for s in (1, 1, 2)
    ]
    assert plans[0] == plans[1] != plans[2]


class Sequence(nn.Module):
    """Tokens of any number: mixes features, adds over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.norm, self.down = nn.Linear(8, 32), nn.LayerNorm(32), nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.norm(self.up(x)))
        return self.down(hidden.reshape(x.shape[0], x.shape[1] * 2, 16).reshape(x.shape[0], x.shape[1], 32))


@pytest.mark.parametrize("tokens", [5, 9])
def test_axes_that_are_declared_dynamic_stay_so(tokens: int) -> None:
    result = sc.prune(Sequence(), torch.randn(2, 6, 8), keep=0.5, dynamic={0: (1,)})
    assert result.model(torch.randn(3, tokens, 8)).shape == (3, tokens, 4)
    assert result.model.get_parameter("down.weight").shape[1] < 32
