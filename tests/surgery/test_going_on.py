"""A pruned model is a module like any other: it trains, is pruned again, exported, copied, stored."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import secateur as sc
from secateur.graph import split_inputs
from secateur.surgery import cut_groups
from secateur.task import call
from tests.zoo import ZOO, random_plan, ready

NAMES = (
    "plain",
    "option_a",
    "grouped",
    "shuffle",
    "vit_unbind",
    "encoder",
    "tied_head",
    "folded",
    "two_outputs",
)


def leaves(outputs: object) -> list[Tensor]:
    return [t for t in torch.utils._pytree.tree_leaves(outputs) if isinstance(t, Tensor)]


def small(name: str) -> fx.GraphModule:
    return cut_groups(ready(name)[1], random_plan(ready(name)[1], 3)).module


def agree(module: nn.Module, other: nn.Module, inputs: Any, **tolerance: float) -> None:
    with torch.no_grad():
        for a, b in zip(leaves(call(module, inputs)), leaves(call(other, inputs)), strict=True):
            torch.testing.assert_close(a, b, **tolerance)


def loss(module: nn.Module, inputs: Any) -> Tensor:
    terms = [t.square().sum() for t in leaves(call(module, inputs)) if t.is_floating_point()]
    return torch.stack(terms).sum()


@pytest.mark.parametrize("name", NAMES)
def test_it_exports_again_in_either_mode(name: str) -> None:
    module, inputs = small(name), ZOO[name].inputs(3)
    args, kwargs = split_inputs(inputs)
    program = torch.export.export(module, args, kwargs)
    agree(program.module(), module, inputs)
    module.train()
    training = torch.export.export(module, args, kwargs).module()
    loss(training, inputs).backward()
    assert sum(p.grad is not None for p in training.parameters()) > 0


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter_that_the_original_reaches(name: str) -> None:
    module, model, inputs = small(name).train(), copy.deepcopy(ready(name)[0]).train(), ZOO[name].inputs(4)
    folded = ready(name)[1].graph.folded
    loss(module, inputs).backward()
    loss(model, inputs).backward()
    reached = {n for n, p in model.named_parameters(remove_duplicate=False) if p.grad is not None}
    for own, parameter in module.named_parameters():
        assert (parameter.grad is not None) == (own in reached or own in folded), own


@pytest.mark.parametrize("name", NAMES)
def test_it_is_copied_and_stored(name: str, tmp_path: Path) -> None:
    module, inputs = small(name), ZOO[name].inputs(3)
    twin = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert all(bool(p.any()) for p in module.parameters())  # a copy shares nothing
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    twin.load_state_dict(torch.load(file, weights_only=True))
    agree(twin, module, inputs, rtol=0, atol=0)
    sc.save(module, tmp_path)
    loaded = sc.load(tmp_path)
    agree(loaded, module, inputs)
    loss(loaded.train(), inputs).backward()


@pytest.mark.parametrize("name", ["plain", "option_a", "grouped", "shuffle", "vit_unbind", "tied_head"])
def test_three_rounds_are_one_plan_on_the_original(name: str) -> None:
    original, inputs = ready(name)[0], ZOO[name].inputs(3)
    model: nn.Module = original
    plans = []
    for k in range(3):
        result = sc.prune(model, inputs, keep=0.8, rounding=sc.Rounding(1), criterion=sc.Random(k + 1))
        plans.append(result.plan)
        model = result.model
    at_once = sc.cut(original, plans[0].then(plans[1]).then(plans[2]), inputs)
    assert sum(p.numel() for p in model.parameters()) < sum(p.numel() for p in original.parameters())
    for own, tensor in model.state_dict().items():
        assert torch.equal(at_once.state_dict()[own], tensor), own
    agree(at_once, model, inputs)


class Listed(nn.Module):
    """Takes features by a list in the code, which a cut writes anew."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).tanh()
        return self.b(x[:, [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]].sin() + x)


def test_a_list_that_one_cut_wrote_is_written_anew_by_the_next() -> None:
    x = torch.randn(4, 8)
    model = Listed()
    once = sc.prune(model, x, keep=0.6, rounding=sc.Rounding(1), criterion=sc.Random(1))
    twice = sc.prune(once.model, x, keep=0.6, rounding=sc.Rounding(1), criterion=sc.Random(2))
    assert 0 < twice.model.a.weight.shape[0] < once.model.a.weight.shape[0] < 12
    agree(sc.cut(model, once.plan.then(twice.plan), x), twice.model, x, rtol=0, atol=1e-6)


def test_rounds_with_training_between() -> None:
    """Each round cuts what training has left; the plans still compose."""
    model: nn.Module = copy.deepcopy(ready("residual")[0])
    inputs, plans = ZOO["residual"].inputs(8), []
    original = model
    for k in range(3):
        result = sc.prune(model, inputs, keep=0.75, rounding=sc.Rounding(1))
        optimiser = torch.optim.SGD(result.model.parameters(), 0.01)
        result.model.train()
        for _ in range(2):
            optimiser.zero_grad()
            loss(result.model, inputs).backward()
            optimiser.step()
        assert result.verification.max_relative_error < 1e-4 and result.model.training, k
        plans.append(result.plan)
        model = result.model
    whole = plans[0].then(plans[1]).then(plans[2])
    shapes = {n: t.shape for n, t in sc.cut(original, whole, inputs).state_dict().items()}
    assert shapes == {n: t.shape for n, t in model.state_dict().items()}


@pytest.mark.parametrize("name", ["plain", "grouped", "vit_unbind", "gqa_repeat", "encoder"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_it_moves_to_another_precision(name: str, dtype: torch.dtype) -> None:
    module, inputs = small(name), ZOO[name].inputs(3)
    assert isinstance(inputs, Tensor)
    expected = leaves(module(inputs))
    found = leaves(copy.deepcopy(module).to(dtype)(inputs.to(dtype)))
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == dtype
        torch.testing.assert_close(a.float(), b, rtol=0.1, atol=0.1 * float(b.abs().max()))


@pytest.mark.parametrize("name", ["plain", "vit_unbind"])
def test_it_compiles(name: str) -> None:
    """Through Dynamo and autograd, without the code generator, which takes half a minute."""
    module, inputs = small(name), ZOO[name].inputs(3)
    compiled = torch.compile(copy.deepcopy(module), backend="aot_eager")
    agree(compiled, module, inputs, rtol=1e-4, atol=1e-5)
    loss(compiled.train(), inputs).backward()
