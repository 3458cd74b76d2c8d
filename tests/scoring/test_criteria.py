"""Criteria: values worked out by hand, derivatives by finite differences, and what a score may not depend on."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.coupling import Group, find_groups
from secateur.errors import DataError, InputError, NotFinite, TaskError
from secateur.graph import trace
from secateur.scoring import (
    FPGM,
    LAMP,
    OBS,
    APoZ,
    BatchNormScale,
    Criterion,
    Fisher,
    Magnitude,
    MeanActivation,
    Random,
    Taylor,
    score,
)
from secateur.task import Task
from tests.zoo import ZOO, ready
from tests.zoo.convolutions import Plain


def two_layers() -> nn.Sequential:
    """Three hidden units with weights that are easy to add up."""
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3.0, -4.0], [1.0, 0.0], [0.0, 2.0]]))
        model[0].bias.copy_(torch.tensor([0.0, 2.0, -1.0]))
        model[2].weight.copy_(torch.tensor([[12.0, 2.0, 0.0], [0.0, 0.0, -2.0]]))
    return model.eval()


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        (1, [3 + 4 + 12, 1 + 2 + 2, 2 + 1 + 2]),
        (2, [9 + 16 + 144, 1 + 4 + 4, 4 + 1 + 4]),
    ],
)
def test_magnitude_by_hand(p: int, expected: list[float]) -> None:
    model = two_layers()
    scores = score(model, find_groups(trace(model, torch.randn(2, 2))), Magnitude(p))
    np.testing.assert_allclose(scores.values["0.weight:0"], expected, rtol=1e-12)
    assert not scores.comparable


def test_magnitude_counts_every_position_of_a_unit_and_no_buffers() -> None:
    model, groups = ready("plain")
    values = score(model, groups, Magnitude(1)).values["conv2.weight:0"]
    own = model.state_dict()
    for i in range(16):
        by_hand = own["conv2.weight"][i].abs().sum() + own["bn2.weight"][i].abs() + own["bn2.bias"][i].abs()
        by_hand = by_hand + own["fc.weight"][:, 4 * i : 4 * i + 4].abs().sum()
        assert values[i] == pytest.approx(float(by_hand), rel=1e-5)


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize(
    "criterion",
    [
        Magnitude(),
        Magnitude(1),
        Random(3),
        LAMP(),
        FPGM(),
        MeanActivation(),
        APoZ(),
        Taylor(),
        Fisher(size=2),
    ],
    ids=str,
)
def test_every_unit_has_a_finite_score(name: str, criterion: Criterion) -> None:
    model, groups = ready(name)
    x = ZOO[name].inputs(4)
    task = Task(loss=lambda o, t: o.float().square().sum(), metric=lambda o, t: 0.0)
    given = [{**x, "labels": torch.zeros(4)}] if isinstance(x, dict) else [(x, torch.zeros(4))]
    values = score(model, groups, criterion, given, task).values
    assert {n: v.shape for n, v in values.items()} == {g.name: (g.units,) for g in groups}
    assert all((v >= 0).all() and v.dtype == np.float64 for v in values.values())


def permuted(model: nn.Module, group: Group, order: np.ndarray) -> nn.Module:
    """The same function with a group's units in another order."""
    twin = copy.deepcopy(model)
    state = twin.state_dict()
    for member in group.members:
        tensor = state[member.param]
        to, of = (torch.from_numpy(p.reshape(-1).copy()) for p in (member.positions, member.positions[order]))
        source = tensor.index_select(member.axis, of)
        tensor.index_copy_(member.axis, to, source)
    return twin


CRITERIA = (
    Magnitude(1), Magnitude(2), Taylor(), Taylor(drawn=True), LAMP(), FPGM(), MeanActivation(), APoZ(), Fisher(), OBS(),
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "group"),
    [("plain", "conv1.weight:0"), ("plain", "conv2.weight:0"), ("residual", "stem.weight:0"),
     ("vit_chunk", "qkv.weight:0"), ("vit_chunk", "fc1.weight:0"), ("grouped", "conv.weight:0"),
     ("gated", "wide.weight:0")],
)  # fmt: skip
def test_permuting_units_permutes_scores(name: str, group: str) -> None:
    model, groups = ready(name)
    order = np.random.default_rng(0).permutation(groups[group].units)
    twin = permuted(model, groups[group], order)
    x = ZOO[name].inputs(3)
    torch.testing.assert_close(twin(x), model(x), rtol=1e-4, atol=1e-5)  # it is the same function
    batches = [(x, torch.arange(3))]
    for criterion in CRITERIA:
        before = score(model, groups, criterion, batches).values
        after = score(twin, groups, criterion, batches).values
        np.testing.assert_allclose(after[group], before[group][order], rtol=1e-3, atol=1e-9)
        others = [g.name for g in groups if g.name != group]
        for other in others:
            np.testing.assert_allclose(after[other], before[other], rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("name", ["plain", "residual", "option_a", "separate", "gqa_repeat"])
def test_taylor_against_finite_differences(name: str) -> None:
    """The score is the squared derivative of the loss by a common factor on the weights that read a unit."""
    model = ZOO[name].model().double()
    x = ZOO[name].inputs(4).double()  # type: ignore[union-attr]
    target = torch.tensor([0, 1, 2, 3])
    groups = find_groups(trace(model, x))
    values = score(model, groups, Taylor(), [(x, target)]).values

    def loss(group: Group, unit: int, factor: float) -> float:
        twin = copy.deepcopy(model)
        named = dict(twin.named_parameters())
        with torch.no_grad():
            for member in [m for m in group.members if m.consumes] or group.members:
                if member.param in named:
                    index = torch.from_numpy(member.positions[unit])
                    weight = named[member.param]
                    weight.index_copy_(member.axis, index, weight.index_select(member.axis, index) * factor)
            return float(F.cross_entropy(twin(x), target))

    eps = 1e-6
    for group in groups:
        for unit in range(0, group.units, 3):
            slope = (loss(group, unit, 1 + eps) - loss(group, unit, 1 - eps)) / (2 * eps)
            assert values[group.name][unit] == pytest.approx(slope**2, rel=1e-3, abs=1e-12)


def test_taylor_is_a_mean_over_batches() -> None:
    model, groups = ready("plain")
    batches = [(torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])) for _ in range(3)]
    single = [score(model, groups, Taylor(), [b]).values for b in batches]
    every = score(model, groups, Taylor(), batches)
    for name in every.values:
        np.testing.assert_allclose(every.values[name], np.mean([s[name] for s in single], axis=0), rtol=1e-6)
    two = score(model, groups, Taylor(batches=2), batches).values
    np.testing.assert_allclose(
        two["conv1.weight:0"], np.mean([s["conv1.weight:0"] for s in single[:2]], axis=0)
    )
    assert every.comparable


def test_taylor_sees_the_weights_of_the_model_it_is_given() -> None:
    """The groups may come from an earlier state of the model."""
    model = Plain().eval()
    groups = find_groups(trace(model, torch.randn(2, 3, 8, 8)))
    batches = [(torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3]))]
    other = Plain().eval()
    assert not np.allclose(
        score(model, groups, Taylor(), batches).values["conv1.weight:0"],
        score(other, groups, Taylor(), batches).values["conv1.weight:0"],
    )


class Counting(nn.Module):
    """Counts its calls in a buffer, in evaluation too."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        return self.b(self.a(x))


def test_scoring_changes_nothing() -> None:
    for model, shape in ((Plain(0.5).train(), (3, 8, 8)), (Counting().train(), (4,))):
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        before = {k: v.clone() for k, v in model.state_dict().items()}
        groups = find_groups(trace(model, torch.randn(2, *shape)))
        score(model, groups, Taylor(), [(torch.randn(4, *shape), torch.tensor([0, 1, 2, 0]))])
        score(model, groups, Magnitude())
        assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
        assert all(torch.equal(p.grad, torch.ones_like(p)) and p.requires_grad for p in model.parameters())
        assert all(m.training for m in model.modules())


def test_lamp_by_hand() -> None:
    """Squares 169, 9 and 9: the first of the equal ones has all of them above it, the largest only itself."""
    model = two_layers()
    scores = score(model, find_groups(trace(model, torch.randn(2, 2))), LAMP())
    np.testing.assert_allclose(scores.values["0.weight:0"], [1.0, 9 / 187, 9 / 178], rtol=1e-12)
    assert scores.comparable


def test_the_distance_to_the_others_by_hand() -> None:
    """Rows (3, -4), (1, 0), (0, 2): the mean distance to the other two."""
    model = two_layers()
    values = score(model, find_groups(trace(model, torch.randn(2, 2))), FPGM()).values["0.weight:0"]
    a, b, c = 20**0.5, 45**0.5, 5**0.5  # between one and two, one and three, two and three
    np.testing.assert_allclose(values, [(a + b) / 2, (a + c) / 2, (b + c) / 2], rtol=1e-6)


def test_batch_norm_scales_by_hand() -> None:
    model, groups = ready("plain")
    values = score(model, groups, BatchNormScale()).values
    own = model.state_dict()
    np.testing.assert_allclose(values["conv1.weight:0"], own["bn1.weight"].abs().double(), rtol=1e-6)
    linear = two_layers()
    with pytest.raises(InputError, match="no unit of this model passes a batch norm"):
        score(linear, find_groups(trace(linear, torch.randn(2, 2))), BatchNormScale())


def test_activations_by_hand() -> None:
    """Where a unit is read: after the rectifier."""
    model = two_layers()
    groups = find_groups(trace(model, torch.randn(2, 2)))
    x = torch.randn(50, 2)
    hidden = model[:2](x).detach().double()
    batches = [(x[:32], torch.zeros(32)), (x[32:], torch.zeros(18))]
    mean = score(model, groups, MeanActivation(), batches).values["0.weight:0"]
    np.testing.assert_allclose(mean, hidden.abs().mean(0), rtol=1e-6)
    awake = score(model, groups, APoZ(), batches).values["0.weight:0"]
    np.testing.assert_allclose(awake, (hidden != 0).double().mean(0), rtol=1e-6)
    with pytest.raises(DataError, match="empty"):
        score(model, groups, APoZ(), [])


def test_fisher_by_hand() -> None:
    """Half the mean of squared products of single samples, over the weights that read a unit."""
    model = two_layers()
    groups = find_groups(trace(model, torch.randn(2, 2)))
    x, target = torch.randn(6, 2), torch.tensor([0, 1, 0, 1, 1, 0])
    expected = np.zeros(3)
    weight = model[2].weight
    for sample, label in zip(x, target, strict=True):
        loss = F.cross_entropy(model(sample[None]), label[None])
        (gradient,) = torch.autograd.grad(loss, [weight])
        expected += (weight * gradient).square().sum(0).detach().double().numpy() / 12
    values = score(model, groups, Fisher(drawn=False), [(x, target)]).values["0.weight:0"]
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_random_follows_its_seed() -> None:
    model, groups = ready("plain")
    one, same, other = (score(model, groups, Random(s)).values for s in (1, 1, 2))
    assert all((one[n] == same[n]).all() for n in one)
    assert not any((one[n] == other[n]).all() for n in one)
    assert all(((v >= 0) & (v < 1)).all() for v in one.values())


def test_taylor_without_batches() -> None:
    model, groups = ready("plain")
    with pytest.raises(DataError, match=r"needs batches: score\(model, groups, criterion, batches\)"):
        score(model, groups, Taylor())
    with pytest.raises(DataError, match="empty"):
        score(model, groups, Taylor(), [])


def test_weights_that_became_nan() -> None:
    model = ZOO["plain"].model()
    groups = ready("plain")[1]
    with torch.no_grad():
        model.get_parameter("conv2.weight")[3, 0] = float("nan")
    with pytest.raises(NotFinite, match=r"conv[12]\.weight:0"):
        score(model, groups, Magnitude())


def test_a_loss_that_fails() -> None:
    model, groups = ready("plain")
    batches = [(torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3]))]

    def broken(outputs: Tensor, target: Tensor) -> Tensor:
        raise ValueError("no such class")

    with pytest.raises(TaskError, match="no such class"):
        score(model, groups, Taylor(), batches, Task(broken, lambda o, t: 0.0))
    with pytest.raises(NotFinite, match="loss"):
        score(model, groups, Taylor(), batches, Task(lambda o, t: o.sum() * float("inf"), lambda o, t: 0.0))


def test_another_model() -> None:
    groups = ready("plain")[1]
    model = Plain()
    model.conv1 = nn.Conv2d(3, 10, 3)
    with pytest.raises(InputError, match=r"'conv1\.weight' has shape \[10, 3, 3, 3\]"):
        score(model, groups, Magnitude())
