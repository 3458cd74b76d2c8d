"""``form="module"``: the user's own class comes back, computes what the graph form does, and knows its new widths."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import secateur as sc


class FusedAttention(nn.Module):
    """Fused qkv, and a head dimension that ``forward`` divides out."""

    def __init__(self, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.num_heads = heads
        self.scale = (width // heads) ** -0.5
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        x = self.norm(x)
        qkv = (
            self.qkv(x)
            .reshape(batch, tokens, 3, self.num_heads, width // self.num_heads)
            .permute(2, 0, 3, 1, 4)
        )
        q, k, v = qkv.unbind(0)
        attention = (q * self.scale @ k.transpose(-2, -1)).softmax(-1)
        x = (attention @ v).transpose(1, 2).reshape(batch, tokens, width)
        return self.head(self.proj(x).mean(1))


class Embedded(nn.Module):
    """A projection in front, so that the width of the attention's input can go with its heads'."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 32)
        self.block = FusedAttention()

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.embed(x))


class OneNumberTwoAxes(nn.Module):
    """One attribute serves two layers that nothing couples."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 24
        self.first = nn.Conv2d(3, 24, 3, padding=1)
        self.second = nn.Conv2d(24, 24, 3, padding=1)
        self.out = nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu().view(x.shape[0], self.width, 8, 8)
        x = self.second(x).relu().view(x.shape[0], self.width, 8, 8)
        return self.out(x.mean((2, 3)))


class Literal(nn.Module):
    """A number written in the code stands for a width."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 16)
        self.second = nn.Linear(16, 32)
        self.out = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x).relu()).relu()
        return self.out(x.view(-1, 32))


class Sections(nn.Module):
    """A list of split sizes, a chunk, and a nested tuple of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(6, 48)
        self.sections = [16, 32]
        self.sizes = {"inner": (32, 16)}
        self.left = nn.Linear(16, 16)
        self.right = nn.Linear(32, 32)
        self.out = nn.Linear(16 + 16 + 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        a, b = torch.split(self.wide(x).relu(), self.sections, dim=-1)
        c, d = self.right(b).chunk(2, dim=-1)
        return self.out(torch.cat([self.left(a), c, d], dim=-1).reshape(x.shape[0], self.total()))

    def total(self) -> int:
        return self.sections[0] + self.sizes["inner"][0]


class GroupedQuery(nn.Module):
    """Grouped queries with repeats, rotary halves left alone."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = 4, 2, 8
        self.embed = nn.Embedding(20, 24)
        self.q = nn.Linear(24, self.heads * self.head_dim, bias=False)
        self.k = nn.Linear(24, self.kv_heads * self.head_dim, bias=False)
        self.v = nn.Linear(24, self.kv_heads * self.head_dim, bias=False)
        self.o = nn.Linear(self.heads * self.head_dim, 24, bias=False)
        self.head = nn.Linear(24, 20, bias=False)
        self.head.weight = self.embed.weight
        self.scale = self.head_dim**-0.5

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        batch, tokens = ids.shape
        x = self.embed(ids)
        q = self.q(x).view(batch, tokens, self.heads, self.head_dim).transpose(1, 2)
        k = self.k(x).view(batch, tokens, self.kv_heads, self.head_dim).transpose(1, 2)
        v = self.v(x).view(batch, tokens, self.kv_heads, self.head_dim).transpose(1, 2)
        k = k.repeat_interleave(self.heads // self.kv_heads, dim=1)
        v = v.repeat_interleave(self.heads // self.kv_heads, dim=1)
        scores = q @ k.transpose(2, 3) * self.scale
        if mask is not None:
            scores = scores.masked_fill(mask[:, None, None, :] == 0, -1e4)
        x = x + self.o(
            (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, tokens, self.heads * self.head_dim)
        )
        return {"logits": self.head(x), "hidden": x.mean()}


class Mixed(nn.Module):
    """Transposed, 1-d and 3-d convolutions, group norm, a shared module and a bare tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(4, 16, 3, padding=1)
        self.norm = nn.GroupNorm(4, 16)
        self.shared = nn.Conv1d(16, 16, 3, padding=1)
        self.up = nn.ConvTranspose1d(16, 12, 2, stride=2)
        self.table = torch.linspace(0.5, 1.5, 12)[None, :, None]
        self.conv3 = nn.Conv3d(1, 6, 3, padding=1)
        self.out = nn.Linear(12, 3)
        self.out3 = nn.Linear(6, 3)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norm(self.conv1(x)).relu()
        x = self.shared(self.shared(x).relu()).relu()
        x = (self.up(x) * self.table).mean(-1)
        return self.out(x), self.out3(self.conv3(y).mean((2, 3, 4)))


class Experts(nn.Module):
    """Experts mixed by a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(8, 4)
        self.up = nn.Parameter(torch.randn(4, 8, 16) * 0.2)
        self.down = nn.Parameter(torch.randn(4, 16, 8) * 0.2)
        self.out = nn.Linear(8, 3)
        self.inner = 16

    def forward(self, x: Tensor) -> Tensor:
        weights = self.gate(x).softmax(-1)
        hidden = torch.einsum("bi,eih->beh", x, self.up).relu().view(-1, 4, self.inner)
        return self.out(torch.einsum("beh,eho,be->bo", hidden, self.down, weights))


class Reparametrised(nn.Module):
    """Weight norm, spectral norm, old hooks and parametrisations."""

    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.utils.parametrizations.weight_norm(nn.Linear(6, 24))
        self.b = torch.nn.utils.parametrizations.spectral_norm(nn.Linear(24, 24))
        self.c = torch.nn.utils.weight_norm(nn.Linear(24, 24))
        self.d = torch.nn.utils.spectral_norm(nn.Linear(24, 24))
        self.out = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.d(self.c(self.b(self.a(x).relu()).relu()).relu()).relu())


class Scaled(nn.Module):
    """The scale is computed from the head dimension when it runs: the factor goes into the queries."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused = 2, fused
        self.embed = nn.Linear(6, 32)
        self.q, self.k, self.v = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 32)
        self.out = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        q, k, v = (f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            y = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1) @ v
        return self.out(y.transpose(1, 2).flatten(2).mean(1))


class Recurrent(nn.Module):
    """LSTM and GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 16, num_layers=2, batch_first=True)
        self.gru = nn.GRU(16, 12, batch_first=True, bidirectional=True)
        self.out = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.gru(self.lstm(x)[0])[0][:, -1])


def tokens(*shape: int) -> Tensor:
    return torch.randint(0, 20, shape)


CASES = {
    "fused": (Embedded, lambda: torch.randn(2, 5, 6)),
    "one number": (OneNumberTwoAxes, lambda: torch.randn(2, 3, 8, 8)),
    "literal": (Literal, lambda: torch.randn(2, 6)),
    "sections": (Sections, lambda: torch.randn(2, 6)),
    "grouped query": (GroupedQuery, lambda: {"ids": tokens(2, 7), "mask": torch.ones(2, 7)}),
    "mixed": (Mixed, lambda: (torch.randn(2, 4, 10), torch.randn(2, 1, 4, 4, 4))),
    "experts": (Experts, lambda: torch.randn(2, 8)),
    "reparametrised": (Reparametrised, lambda: torch.randn(2, 6)),
    "scale fused": (lambda: Scaled(True), lambda: torch.randn(2, 5, 6)),
    "scale by hand": (lambda: Scaled(False), lambda: torch.randn(2, 5, 6)),
    "attention": (
        lambda: nn.Sequential(
            nn.Linear(6, 32), nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), nn.Linear(32, 3)
        ),
        lambda: torch.randn(2, 5, 6),
    ),
    "recurrent": (Recurrent, lambda: torch.randn(2, 5, 6)),
}  # fmt: skip


def built(name: str) -> tuple[nn.Module, object]:
    torch.manual_seed(0)
    make, inputs = CASES[name]
    return make().eval(), inputs()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("how", ["uniform", "free"])
def test_comes_back_in_its_own_class(name: str, how: str) -> None:
    model, inputs = built(name)
    before = copy.deepcopy(model.state_dict())
    asked = {"keep": 0.5} if how == "uniform" else {"params": "0.7x", "criterion": sc.Random(3)}
    result = sc.prune(model, inputs, form="module", rounding=sc.Rounding(2), **asked)
    assert result.form == "module" and type(result.model) is type(model)
    assert sum(p.numel() for p in result.model.parameters()) < 0.8 * sum(
        p.numel() for p in model.parameters()
    )
    graph = sc.cut(model, result.plan, inputs)
    args, kwargs = (
        ((), inputs) if isinstance(inputs, dict) else (inputs if isinstance(inputs, tuple) else (inputs,), {})
    )
    with torch.no_grad():
        ours, theirs = result.model(*args, **kwargs), graph(*args, **kwargs)
    for a, b in zip(
        torch.utils._pytree.tree_leaves(ours), torch.utils._pytree.tree_leaves(theirs), strict=True
    ):
        torch.testing.assert_close(a, b)
    names = result.groups.graph.aliases
    for parameter, own in result.model.named_parameters(remove_duplicate=False):
        assert torch.equal(own, graph.get_parameter(names.get(parameter, parameter)))
    after = model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[n], after[n]) for n in before)
