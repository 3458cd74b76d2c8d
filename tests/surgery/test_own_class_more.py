"""``form="module"`` where the class does more than its program shows: calls without a reader, and plain numbers."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import secateur as sc


class Pooled(nn.Module):
    """A pooler whose result nobody reads: its weights must follow all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 24)
        self.pooler = nn.Linear(24, 24)
        self.side = nn.Sequential(nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 8))
        self.head = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).relu()
        pooled = self.pooler(x[:, 0]).tanh()
        self.side(x).view(x.shape[0], 5, 8).mean(1) + pooled.sum()
        return self.head(x.mean(1))


class SharedScores(nn.Module):
    """Scores of two kinds, divided by one root: the queries cannot take its factor, so that the head size stays."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 2
        self.embed = nn.Linear(6, 32)
        self.q, self.k, self.v = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 32)
        self.gate = nn.Linear(32, 2)
        self.out = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        q, k, v = (f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        scores = (q @ k.transpose(-2, -1)).sigmoid() + self.gate(x).transpose(1, 2).unsqueeze(-1).relu()
        y = (scores / math.sqrt(q.shape[-1])).softmax(-1) @ v
        return self.out(y.transpose(1, 2).flatten(2).mean(1))


class Added(nn.Module):
    """A number computed from a width is added, which no weight makes up for."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.out = nn.Linear(6, 24), nn.Linear(24, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        return self.out((self.second(x) + x.shape[-1] ** -0.5).relu())


class RootInATensor(nn.Module):
    """The root of the head size stands in a tensor, as the offset of a table's middle does."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.span = 2, 8
        self.embed = nn.Linear(6, 32)
        self.q, self.k, self.v = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 32)
        self.table = nn.Parameter(torch.randn(16, 32))
        self.out = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        middle = torch.tensor(x.shape[1])
        x = self.embed(x) + self.table[self.span - middle : self.span].unsqueeze(0)
        q, k, v = (f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        scale = torch.sqrt(torch.tensor(q.size(-1), dtype=torch.float) * 2)
        y = (q @ (k.transpose(-2, -1) / scale.to(dtype=k.dtype))).softmax(-1) @ v
        return self.out(y.transpose(1, 2).flatten(2).mean(1))


class WithoutATrace(nn.Module):
    """Numbers that are computed where no number that remembers survives."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix, self.out = nn.Linear(6, 24), nn.Linear(24, 32), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x * (1.0 / x.shape[-1])
        return self.out(self.mix(x).relu().reshape(x.shape[0], int(str(32))))


class Standardised(nn.Module):
    """The class standardises a convolution's weight whenever it runs: a norm over the inputs that are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 24, 3)
        self.gain = nn.Parameter(torch.rand(24, 1, 1, 1) + 0.5)
        self.out = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.second.weight, dim=[1, 2, 3], keepdim=True, correction=0)
        weight = self.gain * (self.second.weight - mean) * torch.rsqrt(variance + 1e-6)
        x = nn.functional.conv2d(self.first(x).relu(), weight, self.second.bias)
        return self.out(x.relu().mean((2, 3)))


class Aligned(nn.Module):
    """A kernel of the class takes multiples of eight only; the exporter does not see it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(6, 64), nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        if not torch.compiler.is_exporting() and x.shape[-1] % 8:
            raise RuntimeError("strides should be multiple of 16 bytes")
        return self.out(x)


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], set[str]]] = {
    "a pooler that nobody reads": (Pooled, (2, 5, 6), set()),
    "scores that share a root": (SharedScores, (2, 5, 6), {"q.weight", "v.weight"}),
    "a width that is added": (Added, (2, 6), {"first.weight"}),
    "a kernel that wants multiples of eight": (Aligned, (2, 6), set()),
    "a root in a tensor": (RootInATensor, (2, 5, 6), set()),
    "a standardised weight": (Standardised, (2, 3, 8, 8), set()),
    "numbers without a trace": (WithoutATrace, (2, 6), {"mix.weight"}),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("how", ["uniform", "free"])
def test_comes_back(name: str, how: str) -> None:
    make, shape, _ = CASES[name]
    torch.manual_seed(0)
    model, x = make().eval(), torch.randn(*shape)
    before = copy.deepcopy(model.state_dict())
    asked = {"keep": 0.5} if how == "uniform" else {"params": "0.8x", "criterion": sc.Random(3)}
    result = sc.prune(model, x, form="module", rounding=sc.Rounding(2), **asked)
    assert result.form == "module" and type(result.model) is type(model)
    assert sum(p.numel() for p in result.model.parameters()) < sum(p.numel() for p in model.parameters())
    graph = sc.cut(model, result.plan, x)
    with torch.no_grad():
        torch.testing.assert_close(result.model(x), graph(x))
        torch.testing.assert_close(result.model(x[:1]), graph(x[:1]))
    after = model.state_dict()
    assert all(torch.equal(before[n], after[n]) for n in before)


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case[2]])
def test_keeps_whole_what_decides_the_number(name: str) -> None:
    make, shape, whole = CASES[name]
    torch.manual_seed(0)
    model = make().eval()
    result = sc.prune(model, torch.randn(*shape), keep=0.5, form="module", rounding=sc.Rounding(2))
    rows = {n: result.model.get_parameter(n).shape[0] == model.get_parameter(n).shape[0] for n in whole}
    assert any(rows.values())


def test_weights_without_a_reader_follow_the_stream() -> None:
    torch.manual_seed(0)
    model, x = Pooled().eval(), torch.randn(2, 5, 6)
    result = sc.prune(model, x, keep=0.5, form="module")
    stream = list(result.plan.kept["embed.weight"][0])
    pooler = result.model.get_parameter("pooler.weight")
    assert torch.equal(pooler, model.pooler.weight[:, stream])
    assert pooler.requires_grad and "pooler.weight" not in result.plan.kept


@pytest.mark.parametrize("name", ["a pooler that nobody reads", "a standardised weight"])
def test_is_saved_and_loaded_into_the_class(name: str, tmp_path: Path) -> None:
    make, shape, _ = CASES[name]
    torch.manual_seed(0)
    model, x = make().eval(), torch.randn(*shape)
    result = sc.prune(model, x, keep=0.5, form="module", rounding=sc.Rounding(2))
    sc.save(result.model, tmp_path, x)
    loaded = sc.load(tmp_path, into=make().eval())
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), result.model(x))
    assert {n: p.shape for n, p in loaded.named_parameters()} == {
        n: p.shape for n, p in result.model.named_parameters()
    }
