"""``form="module"`` on what models are made of: rotary buffers, position tables, experts, precisions, modes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import secateur as sc


class Rotary(nn.Module):
    """Rotary positions from a buffer of frequencies, halves swapped; keys repeated by the operator."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = 4, 2, 8
        self.embed = nn.Embedding(20, 32)
        self.q = nn.Linear(32, self.heads * self.head_dim)
        self.kv = nn.Linear(32, 2 * self.kv_heads * self.head_dim)
        self.o = nn.Linear(self.heads * self.head_dim, 32)
        self.head = nn.Linear(32, 20)
        frequencies = 1.0 / 100.0 ** (torch.arange(0, self.head_dim, 2) / self.head_dim)
        self.register_buffer("inv_freq", frequencies, persistent=False)

    def rotated(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            angles = torch.arange(x.shape[-2])[:, None] * self.inv_freq
            angles = torch.cat([angles, angles], -1)
        half = x.shape[-1] // 2
        swapped = torch.cat([-x[..., half:], x[..., :half]], -1)
        return x * angles.cos() + swapped * angles.sin()

    def forward(self, ids: Tensor) -> Tensor:
        batch, tokens = ids.shape
        x = self.embed(ids)
        q = self.q(x).view(batch, tokens, self.heads, self.head_dim).transpose(1, 2)
        kv = self.kv(x).view(batch, tokens, 2, self.kv_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(self.rotated(q), self.rotated(kv[0]), kv[1], enable_gqa=True)
        return self.head(x + self.o(y.transpose(1, 2).reshape(batch, tokens, self.heads * self.head_dim)))


class RelativePositions(nn.Module):
    """A table of biases by head, looked up by a buffer of differences of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.window = 4, 4
        self.embed = nn.Linear(6, 32)
        self.qkv, self.proj, self.out = nn.Linear(32, 96), nn.Linear(32, 32), nn.Linear(32, 3)
        self.table = nn.Parameter(torch.randn(2 * self.window - 1, self.num_heads))
        places = torch.arange(self.window)
        self.register_buffer("index", places[:, None] - places[None] + self.window - 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, n, c = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.num_heads, c // self.num_heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        bias = self.table[self.index.view(-1)].view(self.window, self.window, -1).permute(2, 0, 1)
        scores = q * (c // self.num_heads) ** -0.5 @ k.transpose(-2, -1) + bias.unsqueeze(0)
        return self.out(self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, n, c)).mean(1))


class Routed(nn.Module):
    """Two of four experts for each token, each a module of its own, and one that all share."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.gate = nn.Linear(6, 16), nn.Linear(16, 4)
        self.experts = nn.ModuleList(
            nn.ModuleDict({"up": nn.Linear(16, 24), "down": nn.Linear(24, 16)}) for _ in range(4)
        )
        self.out = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        weights, chosen = self.gate(x).softmax(-1).topk(2, dim=-1)
        y = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            weight = (weights * (chosen == i)).sum(-1, keepdim=True)
            y = y + weight * expert["down"](expert["up"](x).relu())
        return self.out(x + y)


class CrossAttention(nn.Module):
    """``nn.MultiheadAttention`` with keys and values of other widths, and one that attends to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(6, 32), nn.Linear(5, 24)
        self.cross = nn.MultiheadAttention(32, 4, kdim=24, vdim=24, batch_first=True)
        self.own = nn.MultiheadAttention(32, 4, batch_first=True)
        self.out = nn.Linear(32, 3)

    def forward(self, x: Tensor, *, memory: Tensor) -> dict[str, Tensor]:
        x, memory = self.left(x), self.right(memory)
        x = x + self.cross(x, memory, memory, need_weights=False)[0]
        x = x + self.own(x, x, x, need_weights=False)[0]
        return {"logits": self.out(x), "mean": x.mean()}


class Grids(nn.Module):
    """Transposed and grouped convolutions in two dimensions, and one in three."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.depthwise, self.grouped = (
            nn.Conv2d(16, 16, 3, padding=1, groups=16),
            nn.Conv2d(16, 32, 1, groups=4),
        )
        self.norm, self.up = nn.BatchNorm2d(32), nn.ConvTranspose2d(32, 16, 2, stride=2, groups=2)
        self.volume, self.out = nn.Conv3d(1, 8, 3, padding=1), nn.Conv2d(16 + 8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        flat = self.up(self.norm(self.grouped(self.depthwise(self.down(x)).relu())).relu())
        return self.out(torch.cat([flat, self.volume(x[:, None]).mean(2).relu()], 1))


def tokens() -> Tensor:
    return torch.randint(0, 20, (2, 7))


KINDS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any]]] = {
    "rotary buffers": (Rotary, tokens),
    "relative positions": (RelativePositions, lambda: torch.randn(2, 4, 6)),
    "routed experts": (Routed, lambda: torch.randn(2, 5, 6)),
    "multi-head attention": (
        CrossAttention,
        lambda: {"x": torch.randn(2, 5, 6), "memory": torch.randn(2, 4, 5)},
    ),
    "grids": (Grids, lambda: torch.randn(2, 3, 8, 8)),
}


def run(module: nn.Module, inputs: Any) -> list[Tensor]:
    with torch.no_grad():
        found = module(**inputs) if isinstance(inputs, dict) else module(inputs)
    return list(torch.utils._pytree.tree_leaves(found))


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def pruned(model: nn.Module, inputs: Any, how: str) -> sc.Pruned:
    asked: dict[str, Any] = (
        {"keep": 0.5} if how == "uniform" else {"params": "0.7x", "criterion": sc.Random(3)}
    )
    result = sc.prune(model, inputs, form="module", rounding=sc.Rounding(2), **asked)
    assert result.form == "module" and type(result.model) is type(model)
    assert size(result.model) < 0.85 * size(model)
    return result


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["uniform", "free"])
def test_comes_back(kind: str, how: str) -> None:
    make, given = KINDS[kind]
    torch.manual_seed(0)
    model, inputs = make().eval(), given()
    result = pruned(model, inputs, how)
    graph = sc.cut(model, result.plan, inputs)
    for ours, theirs in zip(run(result.model, inputs), run(graph, inputs), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision(kind: str, dtype: torch.dtype) -> None:
    make, given = KINDS[kind]
    torch.manual_seed(0)
    model, inputs = make().eval().to(dtype), given()
    inputs = torch.utils._pytree.tree_map(lambda t: t.to(dtype) if t.is_floating_point() else t, inputs)
    result = pruned(model, inputs, "uniform")
    assert {p.dtype for p in result.model.parameters()} == {dtype}
    graph = sc.cut(model, result.plan, inputs)
    for ours, theirs in zip(run(result.model, inputs), run(graph, inputs), strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_in_training_mode(kind: str) -> None:
    make, given = KINDS[kind]
    torch.manual_seed(0)
    model, inputs = nn.Sequential(make()), given()
    model = model.train() if not isinstance(inputs, dict) else make().train()
    next(m for m in model.modules() if not list(m.children())).eval()  # one layer is frozen
    result = pruned(model, inputs, "uniform")
    modes = [(n, m.training) for n, m in model.named_modules()]
    assert [(n, m.training) for n, m in result.model.named_modules()] == modes
    outputs = result.model(**inputs) if isinstance(inputs, dict) else result.model(inputs)
    sum(t.float().square().mean() for t in torch.utils._pytree.tree_leaves(outputs)).backward()
    missing = [n for n, p in result.model.named_parameters() if p.grad is None]
    assert missing == []
