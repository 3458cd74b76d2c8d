"""Reconstruction: what can be made up for is, what cannot is the least-squares answer, and nothing else changes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import secateur as sc
from secateur.coupling import find_groups
from secateur.data import Data
from secateur.errors import DataError, InputError
from secateur.graph import trace
from secateur.planning import plan_of
from secateur.recovery import Reconstruct, Setting, reconstruct_, recover_
from secateur.recovery.state import digest
from secateur.surgery import cut_groups
from secateur.task import Task
from tests.zoo import ZOO
from tests.zoo.case import randomise


def without(model, example, lost):
    """The model with units cut: ``{group: units}``."""
    groups = find_groups(trace(model, example))
    dead = torch.cat([torch.from_numpy(groups[name].atoms[units]) for name, units in lost.items()]).numpy()
    return cut_groups(groups, plan_of(groups, dead))


def copied(layer, to, of, *norms):
    """Makes an output channel of a layer the same as another."""
    with torch.no_grad():
        for tensor in (
            layer.weight,
            layer.bias,
            *(t for n in norms for t in n.state_dict().values() if t.dim()),
        ):
            if tensor is not None:
                tensor[to] = tensor[of]


def images(count, channels=3, size=8, seed=0):
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(seed))


class Net(nn.Sequential):
    def __init__(self, groups=1):
        super().__init__(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3, bias=False),
            nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4),
        )  # fmt: skip


def made(kind, *args):
    torch.manual_seed(0)
    model = kind(*args).eval()
    randomise(model)
    return model


def test_a_channel_that_others_can_stand_in_for_is_made_up_for() -> None:
    model = made(Net)
    copied(model[0], 5, 2, model[1])
    cut = without(model, images(2), {"0.weight:0": [5]})
    fresh = images(16, seed=9)
    wanted = model(fresh)
    assert (cut.module(fresh) - wanted).abs().max() > 1e-2
    before = digest(model)
    done = reconstruct_(cut, [images(64)])
    torch.testing.assert_close(cut.module(fresh), wanted, rtol=1e-3, atol=1e-3)
    assert [s.layer for s in done.solved] == ["3.weight"]  # what reads as before is left alone
    assert done.skipped["8.weight"] == "there is nothing to make up for"
    assert done.solved[0].after < 1e-4 * done.solved[0].before and done.samples == 64
    assert digest(model) == before


class Attention(nn.Module):
    """Heads that read, and a layer that puts them together."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(8, 8) for _ in range(4))
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        q, k, v = (f(x).unflatten(-1, (4, 2)).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return self.head((x + self.out(y.transpose(1, 2).flatten(2))).mean(1))


def test_a_head_that_says_what_another_says_is_made_up_for() -> None:
    model = made(Attention)
    with torch.no_grad():
        for layer in (model.q, model.k, model.v):
            layer.weight[6:8], layer.bias[6:8] = layer.weight[0:2], layer.bias[0:2]
    x = torch.randn(64, 5, 8)
    groups = find_groups(trace(model, x[:2]))
    heads = next(g for g in groups if g.units == 4)
    cut = cut_groups(groups, plan_of(groups, heads.atoms[[3]]))
    fresh = torch.randn(16, 5, 8)
    assert (cut.module(fresh) - model(fresh)).abs().max() > 1e-2
    reconstruct_(cut, [x])
    torch.testing.assert_close(cut.module(fresh), model(fresh), rtol=1e-3, atol=1e-3)


def test_the_weights_are_those_of_least_squares() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).eval()
    x = torch.randn(600, 4, generator=torch.Generator().manual_seed(1))
    cut = without(model, x[:2], {"0.weight:0": [1, 4]})
    with torch.no_grad():
        read = torch.cat([model[:2](x)[:, [0, 2, 3, 5]], torch.ones(600, 1)], 1)
        best = torch.linalg.lstsq(read.double(), model(x).double()).solution
    reconstruct_(cut, [x])
    state = cut.module.state_dict()
    torch.testing.assert_close(state["2.weight"].double(), best[:4].T, rtol=2e-2, atol=2e-3)
    torch.testing.assert_close(state["2.bias"].double(), best[4], rtol=2e-2, atol=2e-3)


class Residual(nn.Module):
    """Two branches into one stream, nothing after it."""

    def __init__(self, rectified=False):
        super().__init__()
        self.stem = nn.Linear(6, 6)
        self.one, self.two = (nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 6)) for _ in range(2))
        self.last = nn.ReLU() if rectified else nn.Identity()

    def forward(self, x):
        x = self.stem(x)
        x = x + self.one(x)
        return self.last(x + self.two(x))


@pytest.mark.parametrize("rectified", [False, True])
def test_a_branch_makes_up_for_the_stream_before_it(rectified, monkeypatch) -> None:
    """Compared with solving each layer for its own output, and with targets that ask for what a rectifier hides."""
    from secateur.recovery.reconstruct import layerwise

    model = made(Residual, rectified)
    x, fresh = torch.randn(512, 6), torch.randn(256, 6)

    def error():
        cut = without(model, x[:2], {"one.0.weight:0": list(range(7)), "two.0.weight:0": [1, 2]})
        reconstruct_(cut, [x])
        return float((cut.module(fresh) - model(fresh)).detach().square().mean())

    found = error()
    if rectified:
        monkeypatch.setattr(layerwise, "RECTIFIED", 0)
    else:
        monkeypatch.setattr(layerwise, "target_of", lambda node, *_: layerwise.Target(node))
    assert found < 0.97 * error()


@pytest.mark.parametrize("name", ZOO)
def test_every_kind_of_network_can_be_reconstructed(name: str) -> None:
    """Half of the units gone at random: the outputs come nearer to the dense ones, or stay where they were."""
    case = ZOO[name]
    model, many, fresh = case.model(), case.inputs(96), case.inputs(32)
    before = digest(model)
    groups = find_groups(trace(model, case.inputs(2)))
    plan = sc.allocate(sc.score(model, groups, sc.Random(1)), keep=0.5, rounding=sc.Rounding(1))
    cut, twin = cut_groups(groups, plan), cut_groups(groups, plan)
    reconstruct_(cut, [many])
    errors = [[], []]
    for module, found in zip((twin.module, cut.module), errors, strict=True):
        flat, _ = torch.utils._pytree.tree_flatten((_run(module, fresh), _run(model, fresh)))
        half = len(flat) // 2
        for got, wanted in zip(flat[:half], flat[half:], strict=True):
            if isinstance(got, torch.Tensor) and got.shape == wanted.shape and got.is_floating_point():
                found.append(float((got - wanted).square().mean() / wanted.square().mean().clamp(min=1e-12)))
    assert sum(errors[1]) <= 1.1 * sum(errors[0]) + 1e-6
    assert digest(model) == before


def _run(module, inputs):
    from secateur.task import call

    with torch.no_grad():
        return call(module, inputs)


def test_what_a_mask_hides_does_not_count() -> None:
    class Text(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 4)

        def forward(self, x, attention_mask):
            return self.b(torch.tanh(self.a(x))) * attention_mask.unsqueeze(-1)

    model = made(Text)
    x, mask = torch.randn(64, 6, 4), torch.ones(64, 6, dtype=torch.long)
    mask[:, 4:] = 0
    groups = find_groups(trace(model, {"x": x[:2], "attention_mask": mask[:2]}))
    name = next(g.name for g in groups if g.units == 8)
    weights = []
    for hidden in (x[:, 4:], 50 * torch.randn(64, 2, 4)):
        cut = cut_groups(groups, plan_of(groups, groups[name].atoms[:4]))
        reconstruct_(cut, [{"x": torch.cat([x[:, :4], hidden], 1), "attention_mask": mask}])
        weights.append(cut.module.state_dict()["b.weight"].clone())
    assert torch.equal(*weights)


def test_named_inputs_may_come_in_any_order_and_must_be_those_of_the_trace() -> None:
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 8), nn.Linear(4, 8), nn.Linear(8, 3)

        def forward(self, x, y):
            return self.c(torch.relu(self.a(x)) * torch.tanh(self.b(y)))

    model, x, y = made(Two), torch.randn(64, 4), torch.randn(64, 4)
    states = []
    for inputs in ({"x": x, "y": y}, {"y": y, "x": x}):
        result = sc.prune(model, {"x": x[:2], "y": y[:2]}, keep=0.5, rounding=sc.Rounding(1))
        sc.reconstruct_(result, [inputs])
        states.append(digest(result.model))
    assert states[0] == states[1]
    with pytest.raises(InputError, match=r"names \['x'\], and the model was traced with \['x', 'y'\]"):
        sc.reconstruct_(result, [{"x": x}])
    with pytest.raises(InputError, match="2 positional inputs"):
        sc.reconstruct_(result, [(x, y)])


def test_the_owners_class_gets_the_same_weights() -> None:
    model = made(Net)
    result = sc.prune(model, images(2), keep=0.5, form="module", rounding=sc.Rounding(1))
    assert type(result.model) is Net
    before = digest(result.model)
    sc.reconstruct_(result, [images(64)])
    assert digest(result.model) != before
    torch.testing.assert_close(result.model(images(4, seed=3)), result.cut.module(images(4, seed=3)))


def test_shared_weights_are_left_alone() -> None:
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x):
            return self.c(torch.relu(self.b(torch.relu(self.b(torch.relu(self.a(x)))))))

    model = made(Shared)
    result = sc.prune(model, torch.randn(2, 4), keep=0.5, rounding=sc.Rounding(1))
    kept = result.model.state_dict()["b.weight"].clone()
    done = sc.reconstruct_(result, [torch.randn(64, 4)])
    assert done.skipped["b.weight"] == "several calls share it"
    assert torch.equal(result.model.state_dict()["b.weight"], kept)
    assert "c.weight" in {s.layer for s in done.solved}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions(dtype) -> None:
    model = made(Net).to(dtype)
    copied(model[0], 5, 2, model[1])
    cut = without(model, images(2).to(dtype), {"0.weight:0": [5]})
    fresh = images(16, seed=9).to(dtype)
    before = (cut.module(fresh) - model(fresh)).abs().mean()
    reconstruct_(cut, [images(64).to(dtype)])
    assert (cut.module(fresh) - model(fresh)).abs().mean() < 0.2 * before
    assert all(p.dtype == dtype for p in cut.module.parameters())


def test_fewer_inputs_where_memory_is_short_and_the_same_twice() -> None:
    model = made(Net)
    states = []
    for _ in range(2):
        cut = without(model, images(2), {"0.weight:0": [0, 1, 2]})
        done = reconstruct_(cut, [images(64)], memory=400_000)
        states.append(digest(cut.module))
    assert 1 <= done.samples < 64
    assert states[0] == states[1]


NEAR = Task(
    loss=lambda outputs, targets: (outputs - targets).square().mean(),
    metric=lambda outputs, targets: -float((outputs - targets).square().mean()),
)


def test_a_recoverer_that_takes_back_what_does_harm() -> None:
    model = made(Net)
    good = [(images(64), model(images(64)).detach())]
    lost = {"0.weight:0": [0, 1, 2, 3]}
    cut = without(model, images(2), lost)
    record = recover_(cut.module, Data(good, good, (), ()), NEAR, Reconstruct(cut), Setting(quiet=True))
    assert record.kind == "reconstruct" and record.after > record.before and record.best_epoch == 1
    # Inputs that say nothing of the data: what is learnt from them does harm, and is not kept.
    for keep_best in (True, False):
        cut = without(model, images(2), lost)
        state = digest(cut.module)
        odd = Data([(images(8, seed=5) * 0.01 + 5.0, good[0][1][:8])], good, (), ())
        recoverer = Reconstruct(cut, keep_best=keep_best)
        record = recover_(cut.module, odd, NEAR, recoverer, Setting(quiet=True))
        if keep_best:
            assert record.best_epoch == 0 and record.after == record.before and digest(cut.module) == state
        else:
            assert record.after < record.before


def test_wrong_use_is_said() -> None:
    model = made(Net)
    cut = without(model, images(2), {"0.weight:0": [0]})
    with pytest.raises(DataError, match="no inputs"):
        reconstruct_(cut, [])
    other = copy.deepcopy(cut.module)
    data = Data((), (), (), ())
    with pytest.raises(InputError, match="for the model of that cut"):
        recover_(other, data, sc.classification(), Reconstruct(cut), Setting(quiet=True))
    with torch.device("meta"):
        empty = Net().eval()
    small = sc.prune(empty, torch.zeros(2, 3, 8, 8, device="meta"), keep=0.5, criterion=sc.Random(0))
    with pytest.raises(InputError, match="meta device"):
        sc.reconstruct_(small, [images(4)])
