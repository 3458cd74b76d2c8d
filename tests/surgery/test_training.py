"""A cut model trains as the original would: batch norm learns its statistics, dropout drops, weights move."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from secateur.coupling import find_groups
from secateur.graph import trace
from secateur.planning import Plan
from secateur.surgery import cut_groups
from tests.zoo import ZOO, random_plan, ready
from tests.zoo.case import randomise
from tests.zoo.convolutions import Plain


def plain(dropout: float = 0.5) -> nn.Module:
    model = Plain(dropout).eval()
    randomise(model)
    return model


def small(model: nn.Module, seed: int = 1, shape: tuple[int, ...] = (3, 8, 8)) -> fx.GraphModule:
    groups = find_groups(trace(model, torch.randn(2, *shape)))
    return cut_groups(groups, random_plan(groups, seed)).module


def whole(model: nn.Module, *shape: int) -> fx.GraphModule:
    groups = find_groups(trace(model, torch.randn(2, *shape)))
    return cut_groups(groups, Plan(groups.graph.fingerprint, {})).module


def test_batch_norm_learns_its_statistics() -> None:
    module = small(plain()).train()
    before = {n: b.clone() for n, b in module.named_buffers()}
    module(torch.randn(8, 3, 8, 8))
    after = dict(module.named_buffers())
    assert after["bn1.num_batches_tracked"] == before["bn1.num_batches_tracked"] + 1
    for name in ("bn1.running_mean", "bn1.running_var", "bn2.running_mean"):
        assert not torch.allclose(after[name], before[name])
    module.eval()
    frozen = {n: b.clone() for n, b in module.named_buffers()}
    module(torch.randn(8, 3, 8, 8))
    assert all(torch.equal(frozen[n], b) for n, b in module.named_buffers())


class Sequences(nn.Module):
    """Two recurrent layers, with dropout between them."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(6, 12, num_layers=2, dropout=0.5, batch_first=True)
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


def test_recurrent_layers_drop_in_training_alone() -> None:
    module, x = small(Sequences().eval(), shape=(5, 6)), torch.randn(4, 5, 6)
    assert torch.equal(module(x), module(x))
    module.train()
    assert not torch.allclose(module(x), module(x))
    module(x).sum().backward()
    assert module.get_parameter("rnn.weight_hh_l1").grad is not None


def test_dropout_drops_in_training_alone() -> None:
    module = small(plain())
    x = torch.randn(4, 3, 8, 8)
    assert torch.equal(module(x), module(x))
    module.train()
    assert not torch.allclose(module(x), module(x))
    module.eval()
    assert torch.equal(module(x), module(x))


def test_cutting_nothing_trains_like_the_original() -> None:
    """Same seed, same batches: outputs, gradients and statistics are those of the user's module."""
    model = plain(0.3)
    module = whole(model, 3, 8, 8).train()
    model.train()
    for step in range(3):
        x, target = torch.randn(8, 3, 8, 8), torch.randint(0, 5, (8,))
        outputs = []
        for m in (model, module):
            torch.manual_seed(step)
            m.zero_grad()
            out = m(x)
            F.cross_entropy(out, target).backward()
            outputs.append(out)
            with torch.no_grad():
                for p in m.parameters():
                    p -= 0.1 * p.grad
        torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-4, atol=1e-5)
    own, new = model.state_dict(), module.state_dict()
    assert set(own) == set(new)
    for name in own:
        torch.testing.assert_close(new[name], own[name], rtol=1e-4, atol=1e-5)


def test_attention_drops_in_training() -> None:
    model = ZOO["encoder"].model()
    for m in model.modules():
        if isinstance(m, nn.Dropout):
            m.p = 0.0
    module = whole(model, 6, 16)
    x = torch.randn(2, 6, 16)
    torch.testing.assert_close(module(x), model.eval()(x), rtol=1e-4, atol=1e-5)
    module.train()
    assert not torch.allclose(module(x), module(x))


class Momentum(nn.Module):
    """Batch norm with a momentum of its own, one without running statistics, one without weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.bn1 = nn.BatchNorm2d(8, momentum=0.3)
        self.bn2 = nn.BatchNorm2d(8, track_running_stats=False)
        self.bn3 = nn.BatchNorm2d(8, affine=False)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn3(self.conv3(self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))).relu())
        return self.fc(x.mean((2, 3)))


def test_kinds_of_batch_norm() -> None:
    model = Momentum().eval()
    module = whole(model, 3, 6, 6)
    x = torch.randn(4, 3, 6, 6)
    torch.testing.assert_close(module(x), model(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(module.train()(x), model.train()(x), rtol=1e-4, atol=1e-5)
    for name, buffer in model.named_buffers():
        torch.testing.assert_close(module.get_buffer(name), buffer)
    cut = small(model.eval(), 2, (3, 6, 6)).train()
    cut(x).sum().backward()
    assert all(p.grad is not None for p in cut.parameters())


@pytest.mark.parametrize(
    "name", ["plain", "residual", "grouped", "vit_unbind", "gqa_enable", "mixer", "folded", "encoder"]
)
def test_a_cut_model_learns(name: str) -> None:
    groups = ready(name)[1]
    module = copy.deepcopy(cut_groups(groups, random_plan(groups, 2)).module).train()
    optimiser = torch.optim.Adam(module.parameters(), 1e-2)
    x, target = ZOO[name].inputs(16), torch.arange(16) % 5
    losses = []
    for _ in range(25):
        optimiser.zero_grad()
        loss = F.cross_entropy(module(x), target)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert np.mean(losses[-3:]) < losses[0] - 0.02
    assert all(p.grad is not None for p in module.parameters())


def test_a_plan_can_be_made_after_training() -> None:
    module = small(plain()).train()
    optimiser = torch.optim.SGD(module.parameters(), 0.05)
    for _ in range(3):
        optimiser.zero_grad()
        F.cross_entropy(module(torch.randn(8, 3, 8, 8)), torch.randint(0, 5, (8,))).backward()
        optimiser.step()
    again = find_groups(trace(module, torch.randn(2, 3, 8, 8)))
    assert module.training
    second = cut_groups(again, random_plan(again, 4), dtype=torch.float64)
    assert second.verification.max_relative_error <= 1e-10
    second.module.train()
    before = second.module.get_buffer("bn1.num_batches_tracked").clone()
    second.module(torch.randn(4, 3, 8, 8))
    assert second.module.get_buffer("bn1.num_batches_tracked") == before + 1 == 4
