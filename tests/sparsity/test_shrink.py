"""Shrinking: zeroed channels go, the function stays, and what cannot go is said."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import secateur as sc
from tests.zoo import ZOO
from tests.zoo.case import randomise


class Net(nn.Sequential):
    def __init__(self, padding=0, bias=False):
        super().__init__(
            nn.Conv2d(3, 8, 3, bias=bias), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3, padding=padding, bias=bias),
            nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4),
        )  # fmt: skip


def made(*args):
    torch.manual_seed(0)
    model = Net(*args).eval()
    randomise(model)
    return model


X = torch.randn(4, 3, 12, 12)


def zeroed(layer, channels, axis=0):
    with torch.no_grad():
        layer.weight.index_fill_(axis, torch.tensor(channels), 0.0)
        if axis == 0 and layer.bias is not None:
            layer.bias[channels] = 0.0


def test_filters_that_were_zeroed_before_a_norm_leave_a_constant_that_goes_on() -> None:
    model = made()
    zeroed(model[0], [1, 5, 6])
    with torch.no_grad():
        model[1].bias[:] = model[1].bias.abs() + 3.0  # what is left passes the rectifier
    before = copy.deepcopy(model.state_dict())
    small = sc.shrink(model, X[:2])
    assert small.removed == {"0.weight:0": 3} and not small.kept
    assert small.model.state_dict()["3.weight"].shape == (6, 5, 3, 3)
    torch.testing.assert_close(small.model(X), model(X), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_constant_before_a_padded_convolution_stays_and_zeros_go() -> None:
    model = made(1)
    zeroed(model[0], [1, 5])
    with torch.no_grad():
        for channel, sign in ((1, 1.0), (5, -1.0)):  # one passes the rectifier, one does not
            model[1].running_mean[channel], model[1].bias[channel] = 0.0, sign
    small = sc.shrink(model, X[:2])
    assert small.removed == {"0.weight:0": 1}
    (reasons,) = small.kept.values()
    assert "padded convolution" in next(iter(reasons)) and sum(reasons.values()) == 1
    torch.testing.assert_close(small.model(X), model(X), rtol=1e-4, atol=1e-5)


def test_what_nothing_reads_goes_whatever_it_is() -> None:
    model = made(1)
    zeroed(model[3], [0, 2], axis=1)
    small = sc.shrink(model, X[:2])
    assert small.removed == {"0.weight:0": 2}
    torch.testing.assert_close(small.model(X), model(X), rtol=1e-4, atol=1e-5)


def test_a_constant_that_no_bias_can_take_stays() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3, bias=False)).eval()
    with torch.no_grad():
        model[0].weight[2] = 0.0
        model[0].bias[2] = 1.5
    small = sc.shrink(model, torch.randn(2, 4))
    assert not small.removed and "no bias to take it" in next(iter(small.kept["0.weight:0"]))


def test_masks_of_torch_are_read_as_they_act() -> None:
    model = made()
    prune.ln_structured(model[0], "weight", amount=4, n=2, dim=0)
    small = sc.shrink(model, X[:2])
    assert sum(small.removed.values()) == 4
    torch.testing.assert_close(small.model(X), model(X), rtol=1e-4, atol=1e-5)
    assert prune.is_pruned(model)


def test_one_unit_of_a_group_stays() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).eval()
    with torch.no_grad():
        model[0].weight.zero_()
    small = sc.shrink(model, torch.randn(2, 4))
    assert small.removed == {"0.weight:0": 5}
    x = torch.randn(5, 4)
    torch.testing.assert_close(small.model(x), model(x))


@pytest.mark.parametrize("name", ZOO)
def test_nothing_is_lost_where_nothing_is_zero_and_the_function_stays(name: str) -> None:
    """In every kind of network, half of the units of each group made idle where nothing reads them."""
    case = ZOO[name]
    model = case.model()
    groups = sc.find_groups(sc.trace(model, case.inputs(2)))
    own = dict(model.named_parameters())
    with torch.no_grad():
        for group in groups:
            readers = [m for m in group.members if m.consumes]
            if any(m.param not in own for m in readers):
                continue
            for member in readers:
                places = torch.from_numpy(member.positions[: group.units // 2].reshape(-1).copy())
                own[member.param].index_fill_(member.axis, places, 0.0)
    small = sc.shrink(model, case.inputs(2))
    assert small.error <= 1e-4
    counted = sum(p.numel() for p in small.model.parameters())
    assert counted <= sum(p.numel() for p in model.parameters())


def test_a_model_without_zeros_is_as_large_as_before() -> None:
    model = made()
    small = sc.shrink(model, X[:2])
    assert not small.removed and not small.kept
    assert sum(p.numel() for p in small.model.parameters()) == sum(p.numel() for p in model.parameters())
