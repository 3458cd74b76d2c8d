"""Idioms of language models: experts, fused heads, parts written into fresh memory, rotations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.coupling import RULES
from tests.coupling.small import Net, Rule, check, linear


@torch.library.custom_op("secateur_tests::grouped_mm", mutates_args=())
def grouped_mm(input: Tensor, weight: Tensor, offs: Tensor) -> Tensor:
    """Rows up to ``offs[e]`` by matrix e, as transformers' operator of this name: torch's own takes bfloat16 alone."""
    bounds = [0, *offs.tolist()]
    return torch.cat([input[i:j] @ w for i, j, w in zip(bounds, bounds[1:], weight, strict=False)])


@grouped_mm.register_fake
def _(input: Tensor, weight: Tensor, offs: Tensor) -> Tensor:
    return input.new_empty(input.shape[0], weight.shape[2])


class Stack(nn.Module):
    """Three experts of 16 to 12 to 8; each row goes to one, by a router."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.randn(3, 16, 12))
        self.down = nn.Parameter(torch.randn(3, 12, 8))
        self.router = nn.Linear(16, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        chosen = self.router(x).argmax(-1)
        order = chosen.argsort(stable=True)
        offsets = (chosen.unsqueeze(-1) <= torch.arange(3)).sum(0).to(torch.int32)
        rows = grouped_mm(x[order], self.up, offsets).relu()
        return grouped_mm(rows, self.down, offsets)[order.argsort(stable=True)]


def assembled(m: Net, x: Tensor) -> Tensor:
    """Two parts written side by side into memory that was not set."""
    one, two = m.a(x), m.b(x)
    both = one.new_empty(one.shape[0], 20)
    both[:, :12] = one
    both[:, 12:] = two
    return m.c(both)


def rotated(m: Net, x: Tensor) -> Tensor:
    """Neighbours of a part rotated as complex numbers; the other part, cut to an odd length, shifts it in memory."""
    plain, turned = m.a(x).split([4, 8], -1)
    pairs = torch.view_as_complex(turned.reshape(*turned.shape[:-1], -1, 2))
    angles = torch.outer(torch.arange(3.0), torch.tensor([1.0, 0.1, 0.01, 0.001]))
    turned = torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)
    return m.b(torch.cat([plain, turned], -1))


class Positions(nn.Module):
    """DeBERTa's scores: queries against keys of relative positions, which are normed and projected as the stream is."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(4, 12))
        self.norm = nn.LayerNorm(12)
        self.q = nn.Linear(12, 8)
        self.k = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        b = x.shape[0]
        q, k = (
            p(self.norm(x)).view(b, -1, 2, 4).transpose(1, 2).reshape(2 * b, -1, 4) for p in (self.q, self.k)
        )
        table = (
            self.k(self.norm(self.table))
            .view(1, 4, 2, 4)
            .transpose(1, 2)
            .repeat(b, 1, 1, 1)
            .view(2 * b, 4, 4)
        )
        where = (torch.arange(3)[:, None] - torch.arange(3) + 1).abs().expand(2 * b, 3, 3)
        scores = q @ k.mT + (q @ table.mT).gather(-1, where)
        return (scores.view(b, 2, 3, 3).softmax(-1) @ k.view(b, 2, 3, 4)).transpose(1, 2).reshape(b, 3, 8)


def alibi(m: Net, x: Tensor) -> Tensor:
    """Slopes and distances made in the program: a slope for each head."""
    q, k = (p(x).unflatten(-1, (4, 3)).transpose(1, 2) for p in (m.q, m.k))
    slopes = torch.pow(torch.tensor(0.5), torch.arange(1, 5))
    scores = q @ k.mT + slopes[:, None, None] * torch.arange(3.0)
    return m.o((scores.softmax(-1) @ k).transpose(1, 2).flatten(2))


def sinusoid(m: Net, x: Tensor) -> Tensor:
    """Sines and cosines of positions, made in the program and added to the stream."""
    angles = torch.arange(3.0)[:, None] * torch.pow(100.0, -torch.arange(6.0) / 6)
    return m.b(m.a(x) + torch.cat([angles.sin(), angles.cos()], -1))


def shared_keys(m: Net, x: Tensor) -> Tensor:
    """Falcon's fused projection: two query heads, a key and a value for each of two groups, keys broadcast."""
    b = x.shape[0]
    fused = m.a(x).view(b, 3, 2, 4, 3)
    q, k, v = fused[:, :, :, :-2], fused[:, :, :, [-2]], fused[:, :, :, [-1]]
    q, k, v = (t.broadcast_to(q.shape).flatten(2, 3).transpose(1, 2) for t in (q, k, v))
    return m.b(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, 3, 12))


PAIR: Any = {"layers": linear(("a", 16, 12), ("b", 12, 5))}
A = {"a.weight:0": "12 | a.weight:0 b.weight:1"}

CASES = (
    Rule("rotary, complex", rotated,
         {"a.weight:0": "4 | a.weight:0 b.weight:1", "a.weight:0#2": "4 | a.weight:0*2 b.weight:1*2 lifted_tensor_0:0"},
         **PAIR, inputs=(2, 3, 16)),
    Rule("other names",
         lambda m, x: m.b(torch.special.expit(h := m.a(x)) * torch.greater(h, 0.1) - torch.negative(h) // 2),
         A, **PAIR),
    Rule("softmax by another name", lambda m, x: m.b(torch.special.softmax(m.a(x), -1)), A, **PAIR, restricted=True),
    Rule("differences lock", lambda m, x: m.c(torch.diff(m.b(m.a(x)), dim=-1)), A,
         linear(("a", 16, 12), ("b", 12, 9), ("c", 8, 5))),
    Rule("differences along another axis",
         lambda m, x: m.b(torch.diff(m.a(x), dim=1, prepend=m.a(x)[:, :1])), A, **PAIR, inputs=(2, 3, 16)),
    Rule("positions as keys", lambda m, x: m.o(m.p(m.a(x))),
         {"a.weight:0": "12 | a.weight:0 p.table:1 p.norm.weight:0 p.norm.bias:0 p.q.weight:1 p.k.weight:1",
          "p.q.weight:0": "2 | p.q.weight:0*4 p.q.bias:0*4 p.k.weight:0*4 p.k.bias:0*4 o.weight:1*4",
          "p.q.weight:0#2": "4 | p.q.weight:0*2 p.q.bias:0*2 p.k.weight:0*2 p.k.bias:0*2 o.weight:1*2"},
         lambda: {"a": nn.Linear(7, 12, bias=False), "p": Positions(), "o": nn.Linear(8, 5, bias=False)}, (2, 3, 7),
         restricted=True),
    Rule("alibi", alibi,
         {"q.weight:0": "4 | q.weight:0*3 k.weight:0*3 o.weight:1*3",
          "q.weight:0#2": "3 | q.weight:0*4 k.weight:0*4 o.weight:1*4"},
         linear(("q", 7, 12), ("k", 7, 12), ("o", 12, 5)), (2, 3, 7)),
    # Each sine is of the same angle as a cosine.
    Rule("sinusoid", sinusoid, {"a.weight:0": "6 | a.weight:0*2 b.weight:1*2"}, **PAIR, inputs=(2, 3, 16)),
    Rule("one key for several queries", shared_keys,
         {"a.weight:0": "2 | a.weight:0*12 b.weight:1*6", "a.weight:0#2": "2 | a.weight:0*6 b.weight:1*6",
          "a.weight:0#3": "3 | a.weight:0*8 b.weight:1*4"},
         linear(("a", 7, 24), ("b", 12, 5)), (2, 3, 7)),
    Rule("pooled along the other axis",
         lambda m, x: m.b(F.avg_pool2d(m.a(x).unsqueeze(1), (2, 1)).squeeze(1)), A, **PAIR, inputs=(2, 4, 16)),
    Rule("pooled with places",
         lambda m, x: m.c(sum(F.max_pool2d(m.b(m.a(x)).unsqueeze(1), (2, 1), return_indices=True)).squeeze(1)),
         A, inputs=(2, 4, 16)),
    Rule("repeats to a stated size", lambda m, x: m.b(torch.repeat_interleave(m.a(x), 3, -1, output_size=12)),
         {"a.weight:0": "4 | a.weight:0 b.weight:1*3", "b.weight:1": "3 | b.weight:1*4"},
         linear(("a", 16, 4), ("b", 12, 5))),
    Rule("parts written into memory", assembled,
         {"a.weight:0": "12 | a.weight:0 c.weight:1", "b.weight:0": "8 | b.weight:0 c.weight:1"},
         linear(("a", 16, 12), ("b", 16, 8), ("c", 20, 5))),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
def test_groups_and_a_cut(case: Rule) -> None:
    check(case)


def test_experts_lose_neurons_and_share_which() -> None:
    experts = Rule(
        "experts", lambda m, x: m.c(m.e(m.a(x))),
        {"a.weight:0": "16 | a.weight:0 e.up:1 e.router.weight:1", "e.up:2": "12 | e.up:2 e.down:1",
         "e.down:2": "8 | e.down:2 c.weight:1"},
        lambda: {"a": nn.Linear(7, 16, bias=False), "e": Stack(), "c": nn.Linear(8, 5, bias=False)}, (6, 7),
    )  # fmt: skip
    check(experts, {"secateur_tests::grouped_mm": RULES["transformers::grouped_mm_fallback"]})
