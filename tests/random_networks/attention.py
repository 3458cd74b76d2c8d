"""Attention in the ways that people write it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.random_networks.block import Block, Spec
from tests.random_networks.choices import Choices
from tests.random_networks.scope import Made, Scope


class Attention(Block):
    """Multi-head attention, self or cross.

    Args:
        d: features that come in, and go out.
        heads: of the queries.
        kv: heads of keys and values.
        e: features of each head.
        fused: one projection for all three, parted by ``"chunk"``, ``"split"``, ``"unbind"`` or ``"slice"``; or none.
        core: ``"sdpa"``, ``"hand"``, ``"einsum"`` or ``"bmm"`` (heads folded into the batch).
        repeat: how keys meet more heads of queries: ``"interleave"``, ``"expand"`` or ``"flag"``.
        extra: ``"causal"``, ``"bias"`` (a table for each head), ``"relative"`` (one looked up by distance),
            ``"qk norm"``, ``"rotary"``, ``"pairs"`` or none.
        memory: features of what keys and values are made from.
        places: tokens, for the table.
    """

    def __init__(
        self, d: int, heads: int, kv: int, e: int, fused: str | None, core: str, repeat: str, extra: str | None,
        memory: int, places: tuple[int, int], bias: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.heads, self.kv, self.e, self.fused, self.core = heads, kv, e, fused, core
        self.repeat, self.extra = repeat, extra
        if fused:
            self.qkv = nn.Linear(d, (heads + 2 * kv) * e, bias=bias)
            self.queries = (("qkv", 0, heads * e),)
        else:
            self.q = nn.Linear(d, heads * e, bias=bias)
            self.k, self.v = nn.Linear(memory, kv * e, bias=bias), nn.Linear(memory, kv * e, bias=bias)
            self.queries = (("q", 0, heads * e),)
        self.o = nn.Linear(heads * e, d)
        if extra == "bias":
            self.table = nn.Parameter(torch.randn(heads, *places))
        if extra == "relative":
            self.table = nn.Parameter(torch.randn(sum(places) - 1, heads))
            steps = torch.arange(places[0])[:, None] - torch.arange(places[1])[None, :] + places[1] - 1
            self.register_buffer("distance", steps)
        if extra == "qk norm":
            self.q_norm, self.k_norm = nn.RMSNorm(e), nn.RMSNorm(e)

    def extra_repr(self) -> str:
        return (
            f"heads={self.heads}, kv={self.kv}, e={self.e}, fused={self.fused!r}, core={self.core!r}, "
            f"repeat={self.repeat!r}, extra={self.extra!r}"
        )

    def parts(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``[B, heads, N, e]`` each."""
        b, n, _ = x.shape
        if self.fused == "unbind":
            q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, self.e).permute(2, 0, 3, 1, 4).unbind(0)
            return q, k, v
        if self.fused:
            sizes = [self.heads * self.e, self.kv * self.e, self.kv * self.e]
            h = self.qkv(x)
            if self.fused == "chunk":
                q, k, v = h.chunk(3, dim=-1)
            elif self.fused == "split":
                q, k, v = h.split(sizes, dim=-1)
            else:
                a, z = sizes[0], sizes[0] + sizes[1]
                q, k, v = h[..., :a], h[..., a:z], h[..., z:]
        else:
            q, k, v = self.q(x), self.k(memory), self.v(memory)
        m = memory.shape[1]
        q = q.view(b, n, self.heads, self.e) if q.is_contiguous() else q.reshape(b, n, self.heads, self.e)
        k, v = (t.unflatten(-1, (self.kv, -1)) for t in (k, v))
        assert k.shape[1] == m
        return q.transpose(1, 2), k.transpose(1, 2), v.permute(0, 2, 1, 3)

    def rotate(self, t: Tensor) -> Tensor:
        """Rotary embedding, its angles alike for a pair."""
        n, e = t.shape[-2], self.e
        angles = torch.arange(n, dtype=t.dtype)[:, None] * 0.3
        if self.extra == "rotary":
            a, b = t.chunk(2, dim=-1)
            other = torch.cat([-b, a], -1)
        else:
            other = torch.stack([-t[..., 1::2], t[..., ::2]], -1).flatten(-2)
        assert e % 2 == 0
        return t * angles.cos() + other * angles.sin()

    def repeated(self, t: Tensor) -> Tensor:
        """Keys or values for each head of the queries."""
        times = self.heads // self.kv
        if times == 1 or self.repeat == "flag":
            return t
        if self.repeat == "interleave":
            return t.repeat_interleave(times, dim=1)
        b, h, n, e = t.shape
        return t[:, :, None].expand(b, h, times, n, e).reshape(b, h * times, n, e)

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        q, k, v = self.parts(x, x if memory is None else memory)
        if self.extra == "qk norm":
            q, k = self.q_norm(q), self.k_norm(k)
        if self.extra in ("rotary", "pairs"):
            q, k = self.rotate(q), self.rotate(k)
        k, v = self.repeated(k), self.repeated(v)
        mask = self.table if self.extra == "bias" else None
        if self.extra == "relative":
            n, m = self.distance.shape
            mask = self.table[self.distance.view(-1)].view(n, m, -1).permute(2, 0, 1).contiguous()
        if self.core == "sdpa":
            gqa = k.shape[1] != q.shape[1]
            y = F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=self.extra == "causal", enable_gqa=gqa
            )
        else:
            einsum, shape = self.core == "einsum", q.shape
            if self.core == "bmm":
                q, k, v = (t.reshape(shape[0] * self.heads, -1, self.e) for t in (q, k, v))
            scores = torch.einsum("bhne,bhme->bhnm", q, k) if einsum else q @ k.transpose(-2, -1)
            scores = scores / math.sqrt(self.e)
            if self.core == "bmm":
                scores = scores.view(shape[0], self.heads, scores.shape[1], scores.shape[2])
            if self.extra == "causal":
                n, m = scores.shape[-2:]
                scores = scores.masked_fill(torch.ones(n, m, dtype=torch.bool).triu(1), -1e9)
            if mask is not None:
                scores = scores + mask
            p = scores.softmax(-1)
            if self.core == "bmm":
                p = p.flatten(0, 1)
            y = torch.einsum("bhnm,bhme->bhne", p, v) if einsum else torch.matmul(p, v)
            y = y.view(shape) if self.core == "bmm" else y
        return self.o(y.transpose(1, 2).reshape(x.shape[0], x.shape[1], self.heads * self.e))


def attention(c: Choices, s: Scope) -> Made | None:
    """Attention among tokens, or from tokens to others, with a residual or without."""
    if not s.x.is_rows or len(s.x.shape) != 2 or not 1 < s.x.shape[0] <= 40:
        return None
    n, d = s.x.shape
    heads, e = c.pick((2, 4, 3, 1)), c.pick((4, 2, 6))
    kv = c.pick([k for k in (heads, 2, 1) if heads % k == 0])
    others = s.others(lambda o: o.is_rows and len(o.shape) == 2 and 1 < o.shape[0] <= 40)
    cross = bool(others) and c.chance(4)
    memory: Spec = s.values[others[0]] if cross else s.x
    fused = None if cross else c.pick((None, "split", "slice", *(("unbind", "chunk") if kv == heads else ())))
    core = c.pick(("sdpa", "hand", "bmm", "einsum"))
    repeat = c.pick(("interleave", "expand", "flag") if core == "sdpa" else ("interleave", "expand"))
    extra = c.pick((None, "bias", "relative", "qk norm", "rotary", "pairs", "causal"))
    if cross and extra == "causal":
        extra = None
    block = Attention(
        d, heads, kv, e, fused, core, repeat, extra, memory.features, (n, memory.shape[0]), bias=c.chance()
    )
    block.told(blind=not memory.fixed[0])
    return s.give(block, Spec("rows", (n, d), (s.x.fixed[0], False)), also=others[:1] if cross else [])


def module(c: Choices, s: Scope) -> Made | None:
    """torch's own attention and its encoder layer."""
    if not s.x.is_rows or len(s.x.shape) != 2 or not 1 < s.x.shape[0] <= 40 or s.x.features % 2:
        return None
    d = s.x.features
    heads = c.pick((2, 1))
    blind = not s.x.fixed[0]
    if c.chance():
        layer = nn.TransformerEncoderLayer(d, heads, 8, dropout=0.0, batch_first=True, norm_first=c.chance())
        made = s.code("m.layer(x)", layer=layer)
        made.block.told(blind=blind, queries=(("layer.self_attn.in_proj_", 0, d),))
    else:
        attn = nn.MultiheadAttention(d, heads, batch_first=True)
        made = s.code("m.attn(x, x, x, need_weights=False)[0] + x", attn=attn)
        made.block.told(blind=blind, queries=(("attn.in_proj_", 0, d),))
    return made


def linear_attention(c: Choices, s: Scope) -> Made | None:
    """Attention without a softmax: features contract over tokens first."""
    if not s.x.is_rows or len(s.x.shape) != 2 or not s.x.fixed[0]:
        return None
    d, e = s.x.features, c.pick((4, 6))
    text = "m.o(F.relu(m.q(x)) @ (F.relu(m.k(x)).transpose(1, 2) @ m.v(x)))"
    parts = {n: nn.Linear(d, e, bias=False) for n in "qkv"}
    made = s.code(text, s.x.with_features(d), **parts, o=nn.Linear(e, d))
    made.block.told(queries=(("q", 0, e),))
    return made


MAKERS = {attention: 5, module: 1, linear_attention: 1}
