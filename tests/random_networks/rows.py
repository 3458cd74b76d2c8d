"""Blocks on rows ``[B, *lead, D]``: linear layers, norms, gates, einsums, mixers, embeddings."""

from __future__ import annotations

from math import prod

import torch
from torch import nn

from tests.random_networks.block import VOCABULARY, Block, Spec, map_of, rows_of, weight
from tests.random_networks.choices import Choices
from tests.random_networks.scope import Made, Scope, width


def linear(c: Choices, s: Scope) -> Made | None:
    """A linear layer on the last axis, as a module or by the functions that people write instead."""
    if not s.x.is_rows:
        return None
    d, out = s.x.features, width(c)
    y = s.x.with_features(out)
    kind = c.pick(("layer", "layer", "matmul", "addmm", "no bias", "einsum"))
    if kind in ("layer", "no bias"):
        return s.code("m.fc(x)", y, fc=nn.Linear(d, out, bias=kind == "layer"))
    if kind == "matmul":
        made = s.code("x @ m.w", y, w=weight(d, out))
    elif kind == "addmm" and len(s.x.shape) == 1:
        made = s.code("torch.addmm(m.b, x, m.w)", y, w=weight(d, out), b=weight(out))
    else:
        made = s.code("torch.einsum('...d,de->...e', x, m.w)", y, w=weight(d, out))
    made.block.told(consumes={"w": (0,)})
    return made


def norm(c: Choices, s: Scope) -> Made | None:
    """Layer norm, RMS norm, batch norm over features."""
    if not s.x.is_rows:
        return None
    d, rank = s.x.features, len(s.x.shape)
    kind = c.pick(("layer", "rms", "batch", "group", "bare"))
    if kind == "batch" and rank == 1:
        return s.code("m.norm(x)", norm=nn.BatchNorm1d(d))
    if kind == "batch" and rank == 2:
        return s.code("m.norm(x.transpose(1, 2)).transpose(1, 2)", norm=nn.BatchNorm1d(d))
    if kind == "group" and rank == 1 and d % 2 == 0:
        return s.code("m.norm(x)", norm=nn.GroupNorm(2, d))
    if kind == "bare":
        return reducing(c, s, "F.layer_norm({x}, {x}.shape[-1:])", s.x, -1)
    return s.code("m.norm(x)", norm=nn.RMSNorm(d) if kind == "rms" else nn.LayerNorm(d))


def reducing(c: Choices, s: Scope, text: str, out: Spec, dim: int) -> Made:
    """A line that reads across an axis: behind a learnt scale along it, or bare and then the oracle is blind.

    ``{x}`` in the text stands for what lives of the value.
    """
    axis = dim % (len(s.x.shape) + 1)
    keeps = len(out.shape) == len(s.x.shape) and out.shape[axis - 1] == s.x.shape[axis - 1] > 1
    if s.x.fixed[axis - 1]:
        return s.code(text.replace("{x}", "x"), out)
    if c.chance(4):
        made = s.code(text.replace("{x}", "x"), out)
        made.block.told(blind=True)
        return made
    after = len(s.x.shape) - axis
    scale = nn.Parameter(torch.rand(s.x.shape[axis - 1], *[1] * after) + 0.5)
    inner = text.replace("{x}", f"m.only(x * m.scale, {dim})")
    made = s.code(f"m.spread({inner}, {dim})" if keeps else inner, out, scale=scale)
    made.block.told(along="scale")
    return made


def reduction(c: Choices, s: Scope) -> Made | None:
    """A softmax, a mean, a sum or an extremum along any axis."""
    if not s.x.is_rows:
        return None
    axis = c.number(1, len(s.x.shape))
    dim = axis - 1 - len(s.x.shape)
    kind = c.pick(("mean", "softmax", "sum", "amax", "normalize", "std", "var", "logsumexp"))
    if kind in ("softmax", "normalize"):
        call = f"F.{kind}({{x}}, dim={dim})"
        return reducing(c, s, call, s.x, dim)
    # Of one position alone there is no deviation with Bessel's correction.
    more = ", correction=0" if kind in ("std", "var") else ""
    if len(s.x.shape) == 1 or c.chance():
        return reducing(c, s, f"({{x}}).{kind}({dim}, keepdim=True{more})", s.x.with_axis(axis, 1, True), dim)
    shape = tuple(n for i, n in enumerate(s.x.shape, 1) if i != axis)
    fixed = tuple(n for i, n in enumerate(s.x.fixed, 1) if i != axis)
    return reducing(c, s, f"({{x}}).{kind}({dim}{more})", Spec("rows", shape, fixed), dim)


def gated(c: Choices, s: Scope) -> Made | None:
    """GLU in all its spellings, and a plain MLP with a norm before it."""
    if not s.x.is_rows:
        return None
    d, inner = s.x.features, width(c, 2)
    kind = c.pick(("mlp", "glu", "swiglu", "fused", "maxout", "two chunks"))
    down, out = nn.Linear(inner, d), s.x.with_features(d)
    if kind == "mlp":
        text = "x + m.down(F.gelu(m.up(m.norm(x))))"
        return s.code(text, norm=nn.LayerNorm(d), up=nn.Linear(d, inner), down=down)
    if kind == "glu":
        return s.code("m.down(F.glu(m.up(x), dim=-1))", out, up=nn.Linear(d, 2 * inner), down=down)
    if kind == "swiglu":
        text = "x + m.down(F.silu(m.gate(x)) * m.up(x))"
        return s.code(
            text, gate=nn.Linear(d, inner, bias=False), up=nn.Linear(d, inner, bias=False), down=down
        )
    if kind == "fused":
        text = f"m.down((lambda h: F.silu(h[..., :{inner}]) * h[..., {inner}:])(m.up(x)))"
        return s.code(text, out, up=nn.Linear(d, 2 * inner), down=down)
    if kind == "two chunks":
        text = "m.down((lambda a, b: F.gelu(a) * b)(*m.up(x).chunk(2, dim=-1)))"
        return s.code(text, out, up=nn.Linear(d, 2 * inner), down=down)
    text = "m.down(torch.maximum(m.a(x), m.b(x)))"
    return s.code(text, out, a=nn.Linear(d, inner), b=nn.Linear(d, inner), down=down)


def mixer(c: Choices, s: Scope) -> Made | None:
    """A layer over tokens, on the transposed tensor."""
    if not s.x.is_rows or len(s.x.shape) != 2:
        return None
    n, inner = s.x.shape[0], width(c)
    text = "x + m.down(F.gelu(m.up(x.transpose(1, 2)))).transpose(1, 2)"
    return s.code(text, up=nn.Linear(n, inner), down=nn.Linear(inner, n))


def tied(c: Choices, s: Scope) -> Made | None:
    """One weight used forwards and backwards."""
    if not s.x.is_rows:
        return None
    made = s.code("F.linear(F.relu(m.fc(x)), m.fc.weight.t())", fc=nn.Linear(s.x.features, width(c)))
    made.block.told(consumes={"fc.weight": (0,)})
    return made


def experts(c: Choices, s: Scope) -> Made | None:
    """A soft mixture of experts."""
    if not s.x.is_rows or len(s.x.shape) > 2:
        return None
    d, inner, n = s.x.features, width(c), c.pick((2, 3))
    body = "[e(x) for e in m.experts]"
    text = f"(torch.stack({body}, -1) * m.router(x).softmax(-1).unsqueeze(-2)).sum(-1)"
    layers = nn.ModuleList(
        nn.Sequential(nn.Linear(d, inner), nn.ReLU(), nn.Linear(inner, d)) for _ in range(n)
    )
    return s.code(text, s.x.with_features(d), experts=layers, router=nn.Linear(d, n))


def einsums(c: Choices, s: Scope) -> Made | None:
    """Projections into heads and back by einsum, and a bilinear form of two values."""
    if not s.x.is_rows or len(s.x.shape) > 2:
        return None
    d, heads, e = s.x.features, c.pick((2, 3)), c.pick((4, 2))
    lead = "bn"[: len(s.x.shape)]
    text = (
        f"torch.einsum('{lead}he,hed->{lead}d', F.relu(torch.einsum('{lead}d,dhe->{lead}he', x, m.w)), m.o)"
    )
    made = s.code(text, s.x.with_features(d), w=weight(d, heads, e), o=weight(heads, e, d))
    made.block.told(consumes={"w": (0,), "o": (0, 1)})
    return made


def embed(c: Choices, s: Scope) -> Made | None:
    """A table of words, with learnt positions or those of ``arange``."""
    if s.x.layout != "ids":
        return None
    n, d = s.x.shape[0], width(c)
    out = rows_of(n, d)
    kind = c.pick(("words", "learnt", "arange"))
    if kind == "words":
        return s.code("m.words(x)", out, words=nn.Embedding(VOCABULARY, d))
    if kind == "learnt":
        return s.code("m.words(x) + m.place", out, words=nn.Embedding(VOCABULARY, d), place=weight(1, n, d))
    text = "m.words(x) + m.place(torch.arange(x.shape[1], device=x.device))"
    return s.code(text, out, words=nn.Embedding(VOCABULARY, d), place=nn.Embedding(n, d))


def to_map(c: Choices, s: Scope) -> Made | None:
    """Tokens as a map of one or two axes in space."""
    if not s.x.is_rows or len(s.x.shape) < 2 or not all(s.x.fixed[:-1]):
        return None
    *lead, d = s.x.shape
    held = s.x.fixed[-1]
    if len(lead) == 1 and lead[0] % 2 == 0 and c.chance():
        text = f"x.transpose(1, 2).unflatten(2, (2, {lead[0] // 2}))"
        return s.code(text, map_of(d, 2, lead[0] // 2, fixed=held))
    return s.code("x.movedim(-1, 1)", map_of(d, *lead, fixed=held)) if len(lead) <= 3 else None


def tokens(c: Choices, s: Scope) -> Made | None:
    """A class token, learnt tokens, or positions added to tokens."""
    if not s.x.is_rows or len(s.x.shape) != 2 or s.x.shape[0] > 12:
        return None
    n, d = s.x.shape
    kind = c.pick(("place", "class", "learnt", "first"))
    if kind == "place":
        return s.code("x + m.place", place=weight(n, d))
    if kind == "class":
        text = "torch.cat([m.cls.expand(x.shape[0], -1, -1), x], 1)"
        return s.code(text, Spec("rows", (n + 1, d), (s.x.fixed[0], s.x.fixed[1])), cls=weight(1, 1, d))
    if kind == "first":
        at = c.number(0, n - 1)
        return s.code(f"x[:, {at}]", rows_of(d, fixed=[s.x.fixed[1]]))
    many = c.pick((2, 3))
    text = "torch.cat([x, m.more.expand(x.shape[0], -1, -1)], 1)"
    made = s.code(text, Spec("rows", (n + many, d), (False, s.x.fixed[1])), more=weight(many, d))
    made.block.told(tokens="more")
    return made


def gram(c: Choices, s: Scope) -> Made | None:
    """Products of two values over their features or their tokens."""
    if not s.x.is_rows or len(s.x.shape) != 2 or prod(s.x.shape) > 150:
        return None
    n, d = s.x.shape
    fits = s.others(lambda o: o.is_rows and len(o.shape) == 2 and o.shape[1] == d)
    other = s.values[fits[0]] if fits else s.x
    also = fits[:1] or [s.at]
    made = s.code(
        "torch.matmul(x, torch.tanh(y).transpose(1, 2))",
        Spec("rows", (n, other.shape[0]), (s.x.fixed[0], other.fixed[0])), also=also,
    )  # fmt: skip
    made.block.told(blind=not (s.x.fixed[1] or other.fixed[1]))
    return made


class Recurrent(Block):
    """A cell unrolled by hand over a few tokens: one weight used again and again."""

    def __init__(self, d: int, inner: int) -> None:
        super().__init__(i=nn.Linear(d, inner), h=nn.Linear(inner, inner))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = torch.tanh(self.i(x[:, 0]))
        for t in range(1, x.shape[1]):
            state = torch.tanh(self.i(x[:, t]) + self.h(state))
        return state


def recurrent(c: Choices, s: Scope) -> Made | None:
    """An unrolled recurrent cell."""
    if not s.x.is_rows or len(s.x.shape) != 2 or s.x.shape[0] > 4 or not s.x.fixed[0]:
        return None
    inner = width(c)
    return s.give(Recurrent(s.x.features, inner), rows_of(inner))


MAKERS = {
    linear: 6, norm: 3, gated: 3, reduction: 2, mixer: 1, tied: 1, experts: 1, einsums: 1, embed: 20, to_map: 1,
    tokens: 2, gram: 1, recurrent: 1,
}  # fmt: skip
