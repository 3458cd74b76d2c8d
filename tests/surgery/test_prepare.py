"""Prepared programs compute what the original does, to the last bits; wrong preparations are refused."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

from secateur.coupling import Arguments, Axes, Facts, Groups, Placement, find_groups
from secateur.errors import NotVerified
from secateur.graph import op_name, trace
from secateur.planning import choice_of, plan_of
from secateur.surgery import Folds, Prepared, Rescale, Sizes, cut_groups, emit, fold, prepare, verify
from secateur.task import call
from tests.surgery.test_rescale import Attention, Clamped, QueryIsKey
from tests.zoo import ZOO, random_free_plan, random_plan, ready
from tests.zoo.attention import Encoder, Vit
from tests.zoo.case import randomise

FREE = [n for n in ZOO if ready(n)[1].contexts]
ATTENTION = "aten::scaled_dot_product_attention"


def amplified(groups: Groups, by: float = 4.0) -> Groups:
    """The same with sharper attention, so that a wrong scale shows."""
    for name in groups.graph.state_names():
        if any(key in name for key in ("qkv", "in_proj", "q.", "k.")):
            with torch.no_grad():
                groups.graph.tensor(name).mul_(by)
    return groups


@cache
def found(name: str) -> Groups:
    """Groups of a network of the zoo with sharp attention, made once."""
    return amplified(ZOO[name].found(ZOO[name].model()))


@pytest.mark.parametrize("name", FREE)
@pytest.mark.parametrize("seed", range(2))
def test_a_prepared_program_is_the_original(name: str, seed: int) -> None:
    """Its outputs in double precision, and so those of what is cut from it."""
    model = ZOO[name].model().double()
    inputs = ZOO[name].inputs(3)
    double = inputs.double() if isinstance(inputs, Tensor) else {k: v.double() for k, v in inputs.items()}
    groups = amplified(find_groups(trace(model, double)))
    plan = random_free_plan(groups, seed)
    result = cut_groups(groups, plan)
    assert result.prepared.max_relative_error <= 1e-12 and result.verification.max_relative_error <= 1e-10
    with torch.no_grad():
        expected = torch.utils._pytree.tree_leaves(call(groups.graph.module, double))
        prepared = result.prepared.groups.graph.module
        program = fx.GraphModule(prepared, prepared.graph)  # the cut itself runs its nodes, never its code
        same = torch.utils._pytree.tree_leaves(call(program, double))
    for a, b in zip(same, expected, strict=True):
        assert float((a - b).abs().max()) <= 1e-10 * float(b.abs().max())


class Threshold(nn.Module):
    """What is above a threshold in one group of channels decides there, wherever the channels come to stand."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 6, 3, groups=3)
        self.c = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.c(self.b(torch.where(x > 0.1, x, -x.sign())).mean((2, 3)))


def test_what_decides_is_compared_where_it_comes_to_stand() -> None:
    torch.manual_seed(0)
    model = Threshold().double()
    groups = find_groups(trace(model, torch.randn(2, 3, 5, 5, dtype=torch.float64)))
    plan = random_free_plan(groups, 0)
    assert len(choice_of(groups, plan).orders) == 2
    result = cut_groups(groups, plan)
    assert result.prepared.max_relative_error <= 1e-12 and result.verification.max_relative_error <= 1e-12


@pytest.mark.parametrize("name", FREE)
def test_the_users_tensors_are_only_read(name: str) -> None:
    model = ZOO[name].model()
    groups = ZOO[name].found(model)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    program = str(groups.graph.module.graph)
    cut_groups(groups, random_free_plan(groups, 1))
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert str(groups.graph.module.graph) == program


def test_nothing_is_copied_where_nothing_is_to_be_done() -> None:
    for name in ("plain", "grouped", "separate"):
        groups = ready(name)[1]
        result = cut_groups(groups, random_plan(groups, 1))
        assert result.prepared.groups is groups and not result.unfolded


@pytest.mark.parametrize("name", ["vit_unbind", "vit_chunk", "gqa_enable", "encoder"])
def test_attention_keeps_the_default_scale(name: str) -> None:
    groups = found(name)
    dead = next(g for g in groups if g.name in groups.contexts and g.units == 4).atoms[1:]
    result = cut_groups(groups, plan_of(groups, dead), dtype=torch.float64)
    (node,) = [n for n in result.module.graph.nodes if op_name(n) == ATTENTION]
    assert node.kwargs.get("scale") is None and not result.unfolded
    assert result.verification.max_relative_error <= 1e-10
    # Half of the root of the head size is left of the query's weights.
    for param, scaled in result.prepared.scaled.items():
        own = groups.graph.tensor(param).detach()
        rows = (scaled.factors != 1.0).nonzero().reshape(-1)
        torch.testing.assert_close(scaled.apply(own)[rows], own[rows] * 0.5)
        left = result.module.state_dict()[param]
        assert left.dtype == own.dtype
        assert set(left.abs().flatten().tolist()) <= set(
            torch.cat([own.abs().flatten(), own[rows].abs().flatten() * 0.5]).tolist()
        )


@pytest.mark.parametrize("kind", [QueryIsKey, Clamped])
def test_a_scale_that_no_weight_takes_is_written_out(kind: type[nn.Module]) -> None:
    model = kind().eval()
    groups = find_groups(trace(model, torch.randn(2, 6, 12)))
    free = next(
        g for g in groups if any(m.param == "q.weight" and m.axis == 0 for m in g.members) and g.units == 4
    )
    result = cut_groups(groups, plan_of(groups, free.atoms[2:]), dtype=torch.float64)
    (node,) = [n for n in result.module.graph.nodes if op_name(n) == ATTENTION]
    assert node.kwargs["scale"] == 0.5
    ((name, reason),) = result.unfolded
    assert name == "scaled_dot_product_attention" and reason


def test_names_gradients_and_types_stay() -> None:
    model = Vit(chunks=True).eval().to(torch.bfloat16)
    model.qkv.weight.requires_grad_(False)
    groups = find_groups(trace(model, torch.randn(2, 3, 8, 8, dtype=torch.bfloat16)))
    result = cut_groups(groups, random_free_plan(groups, 4))
    assert set(result.prepared.scaled) == {"qkv.weight", "qkv.bias"}
    module = result.module
    assert {n: p.requires_grad for n, p in module.named_parameters()} == {
        n: p.requires_grad for n, p in model.named_parameters()
    }
    assert {p.dtype for p in module.parameters()} == {torch.bfloat16}
    # The rewriting itself is exact: it is checked before it is rounded.
    assert result.prepared.max_relative_error < 1e-5


def test_training_goes_on_after_a_fold() -> None:
    model = Encoder()
    randomise(model)
    groups = find_groups(trace(model.eval(), torch.randn(2, 6, 16)))
    module = cut_groups(groups, random_free_plan(groups, 1)).module
    module.train()
    before = {n: p.clone() for n, p in module.named_parameters()}
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    torch.nn.functional.cross_entropy(module(torch.randn(4, 6, 16)), torch.tensor([0, 1, 2, 3])).backward()
    optimizer.step()
    assert any(not torch.equal(before[n], p) for n, p in module.named_parameters() if "in_proj" in n)


def test_a_scale_of_the_programs_own() -> None:
    """What other code divides by the root of the head size can be folded in the same way."""
    groups = found("separate")
    node = next(n for n in groups.graph.nodes if op_name(n) == "aten::mul")
    dead = groups["q.weight:0#2"].atoms[1:]
    sizes = Sizes(groups.coupling, groups.coupling.alive(dead))
    ready_ = prepare(
        groups, sizes, rescales=[Rescale(node, ("self",), 0.5, {"other": 1.0})], dtype=torch.float64
    )
    assert set(ready_.scaled) == {"q.weight", "q.bias"} and ready_.max_relative_error <= 1e-12
    emitted = emit(ready_.groups, sizes)
    (product,) = [n for n in emitted.module.graph.nodes if op_name(n) == "aten::mul"]
    assert product.args[1] == 1.0
    assert verify(ready_.groups, emitted, torch.float64).max_relative_error <= 1e-10


# -- mistakes made on purpose ----------------------------------------------------------------------------


def wanted(groups: Groups) -> tuple[Sizes, Callable[[], Prepared]]:
    """A cut of head dimensions, and how to prepare for it."""
    group = next(
        c.group for c in groups.contexts.values() if any(("q" in p or "in_proj" in p) for p in c.members)
    )
    sizes = Sizes(groups.coupling, groups.coupling.alive(group.atoms[3:]))
    return sizes, lambda: prepare(groups, sizes, dtype=torch.float64)


def spoil(monkeypatch: pytest.MonkeyPatch, change: Callable[[Folds], Folds]) -> None:
    """Lets the folding make a mistake."""
    module = sys.modules[prepare.__module__]
    monkeypatch.setattr(module, "fold", lambda *a: change(fold(*a)))


def changed_factors(change: Callable[[Tensor], Tensor]) -> Callable[[Folds], Folds]:
    def apply(folds: Folds) -> Folds:
        return dataclasses.replace(
            folds,
            scaled={n: dataclasses.replace(s, factors=change(s.factors)) for n, s in folds.scaled.items()},
        )

    return apply


MISTAKES = {
    "another factor": lambda f: torch.where(f != 1.0, f * 1.001, f),
    "no factor": torch.ones_like,
    "its inverse": lambda f: 1.0 / f,
    "its square": lambda f: f**2,
    "rows of the key": lambda f: f.roll(len(f) // 3),
    "a row too few": lambda f: torch.where(torch.arange(len(f)) == int((f != 1.0).nonzero()[0]), 1.0, f),
    "a row too many": lambda f: torch.where(torch.arange(len(f)) == int((f == 1.0).nonzero()[0]), f.min(), f),
    "all rows": lambda f: torch.full_like(f, float(f.min())),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize(("name", "dtype"), [("vit_chunk", None), ("encoder", torch.float64)])
def test_a_wrong_fold_is_refused(
    mistake: str, name: str, dtype: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the scale stays in the program instead, which is right."""
    groups = found(name)
    sizes, _ = wanted(groups)
    assert prepare(groups, sizes, dtype=dtype).scaled  # before the mistake
    spoil(monkeypatch, changed_factors(MISTAKES[mistake]))
    result = prepare(groups, sizes, dtype=dtype)
    assert not result.scaled
    ((node, reason),) = result.unfolded
    assert node == "scaled_dot_product_attention" and "computes something else" in reason
    emitted = emit(result.groups, sizes)
    assert verify(result.groups, emitted, torch.float64).max_relative_error <= 1e-10


@pytest.mark.parametrize("name", ["vit_unbind", "vit_chunk", "encoder"])
def test_a_wrong_scale_of_the_call_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(folds: Folds) -> Folds:
        done = tuple(dataclasses.replace(r, arguments={"scale": 0.5}) for r in folds.done)
        return dataclasses.replace(folds, done=done)

    groups = found(name)
    _, run = wanted(groups)
    spoil(monkeypatch, other)
    assert not run().scaled


@pytest.mark.parametrize("name", ["vit_chunk", "gqa_enable", "encoder"])
@pytest.mark.parametrize("dtype", [None, torch.float64])
def test_wrong_query_weights_in_the_cut_are_refused(name: str, dtype: torch.dtype | None) -> None:
    """The cut is compared with the prepared original: a factor that is lost on the way shows."""
    groups = found(name)
    sizes, run = wanted(groups)
    result = run()
    emitted = emit(result.groups, sizes)
    verify(result.groups, emitted, dtype)
    for param in result.scaled:
        with torch.no_grad():
            emitted.module.get_parameter(param).div_(result.scaled[param].factors.min())
    with pytest.raises(NotVerified):
        verify(result.groups, emitted, dtype)
    other = emit(result.groups, sizes)
    node = next(n for n in other.module.graph.nodes if op_name(n) == ATTENTION)
    node.kwargs = {**node.kwargs, "scale": 0.5}
    with pytest.raises(NotVerified) as caught:
        verify(result.groups, other, dtype)
    assert caught.value.node == node.name


def other_member(groups: Groups, name: str, change: Callable[[np.ndarray], np.ndarray]) -> Groups:
    """Groups that are wrong about where the last member of a free group stands."""
    contexts = groups.contexts[name]
    param = list(contexts.members)[-1]
    placements = tuple(dataclasses.replace(p, positions=change(p.positions)) for p in contexts.members[param])
    wrong = dataclasses.replace(contexts, members={**contexts.members, param: placements})
    table = groups.contexts
    before = table.placements

    def placed(axes: Axes) -> dict[str, tuple[Placement, ...]]:
        out = before(axes)
        if axes is groups.coupling.state_axes[param]:
            out = {**out, name: placements}
        return out

    table._found[name] = wrong
    table.placements = placed
    return groups


def swapped(positions: np.ndarray) -> np.ndarray:
    """The first two units in each other's place."""
    order = np.arange(positions.shape[-2])
    order[:2] = 1, 0
    return positions[..., order, :]


@pytest.mark.parametrize("name", ["grouped", "vit_chunk", "gqa_enable", "group_norm"])
@pytest.mark.parametrize("dtype", [None, torch.float64])
def test_a_wrong_permutation_is_refused(name: str, dtype: torch.dtype | None) -> None:
    groups = ZOO[name].found(ZOO[name].model())
    free = max(groups.contexts, key=lambda n: groups.contexts[n].group.units)
    count, units = groups.contexts[free].shape
    order = np.stack([np.roll(np.arange(units), i) for i in range(count)])
    sizes = Sizes(groups.coupling, groups.coupling.alive(groups[free].atoms[2:]))
    prepare(groups, sizes, {free: order}, dtype=dtype)  # before the mistake
    other_member(groups, free, swapped)
    with pytest.raises(NotVerified, match=r"cells=False") as caught:
        prepare(groups, sizes, {free: order}, dtype=dtype)
    assert caught.value.node


class Chaotic(Attention):
    """Attention, and then a map that doubles every difference, fifty times; written in place at the end."""

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x).tanh()
        for _ in range(50):
            x = 1 - 2 * x * x
        return x.mul_(0.5).add_(1)


@pytest.mark.parametrize("dtype", [None, torch.float64])
def test_rounding_that_grows_is_no_difference(dtype: torch.dtype | None) -> None:
    """Each node is compared from what the original has; a permutation that is wrong is refused all the same."""
    torch.manual_seed(0)
    model, x = Chaotic().eval(), torch.randn(2, 6, 12)
    with torch.no_grad():
        twice = [model.double()(x.double() + by) for by in (0.0, 1e-14)]
    assert float((twice[0] - twice[1]).abs().max()) > 0.1
    groups = find_groups(trace(model.float(), x))
    name = next(n for n, c in groups.contexts.items() if "v.weight" in c.members)
    count, units = groups.contexts[name].shape
    order = np.stack([np.roll(np.arange(units), i) for i in range(count)])
    sizes = Sizes(groups.coupling, groups.coupling.alive(groups[name].atoms[2:]))
    before = {n: groups.graph.tensor(n).clone() for n in groups.graph.state_names()}
    assert prepare(groups, sizes, {name: order}, dtype=dtype).max_relative_error < 1e-12
    found = cut_groups(groups, plan_of(groups, groups[name].atoms[2:], {name: order}), dtype=dtype)
    assert found.verification.max_relative_error < 1e-12 and "rounding grows" in found.verification.reference
    assert all(torch.equal(groups.graph.tensor(n), t) for n, t in before.items())
    other_member(groups, name, swapped)
    with pytest.raises(NotVerified, match=r"cells=False"):
        prepare(groups, sizes, {name: order}, dtype=dtype)


@pytest.mark.parametrize("name", ["separate", "grouped"])
def test_one_tensor_that_is_not_permuted_is_refused(name: str) -> None:
    groups = ZOO[name].found(ZOO[name].model())
    free = next(iter(groups.contexts))
    count, units = groups.contexts[free].shape
    order = np.stack([np.roll(np.arange(units), i) for i in range(count)])
    sizes = Sizes(groups.coupling, groups.coupling.alive(groups[free].atoms[2:]))
    other_member(groups, free, lambda positions: np.sort(positions, axis=-2)[..., ::-1, :])
    with pytest.raises(NotVerified):
        prepare(groups, sizes, {free: order}, dtype=torch.float64)


def test_a_rule_that_hides_what_heads_share_is_found_out_by_running() -> None:
    """A user's rule may be wrong; the check by running does not believe it."""

    @torch.library.custom_op("tests::tilt", mutates_args=())
    def tilt(x: Tensor) -> Tensor:
        return x * torch.arange(1.0, x.shape[-1] + 1, dtype=x.dtype)

    @tilt.register_fake
    def _(x: Tensor) -> Tensor:
        return torch.empty_like(x)

    class Tilted(Attention):
        def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            q, k, v = super().parts(x)
            return tilt(q), k, v

    def rule(f: Facts, a: Arguments) -> Axes:
        return a.x.axes  # wrong: the operator tells positions apart

    groups = find_groups(trace(Tilted().eval(), torch.randn(2, 6, 12)), {"tests::tilt": rule})
    name = next(n for n, c in groups.contexts.items() if "q.weight" in c.members)
    order = np.stack([np.roll(np.arange(4), i) for i in range(3)])
    with pytest.raises(NotVerified, match=r"cells=False\) chooses the same"):
        cut_groups(groups, plan_of(groups, groups[name].atoms[2:], {name: order}))


def test_nodes_are_found_again() -> None:
    groups = found("vit_chunk")
    _, run = wanted(groups)
    result = run()
    assert set(result.nodes) == set(groups.graph.nodes)
    assert all(isinstance(n, fx.Node) for n in result.nodes.values())
    assert [n.name for n in result.nodes] == [n.name for n in result.nodes.values()]
    assert result.groups.graph.fingerprint == groups.graph.fingerprint
