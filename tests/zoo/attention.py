"""Transformers: every usual way to write heads, and token mixers."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.case import Case, affine, images

DIM, HEADS, INNER = 16, 4, 4


def tokens(batch: int) -> Tensor:
    """``[batch, 6, 16]``"""
    return torch.randn(batch, 6, DIM, generator=torch.Generator().manual_seed(1))


class Vit(nn.Module):
    """Patches, a class token, positions, one block with fused q, k and v, and a head on the class token."""

    def __init__(self, chunks: bool = False) -> None:
        super().__init__()
        self.chunks = chunks
        self.patch = nn.Conv2d(3, DIM, 4, stride=4)
        self.cls = nn.Parameter(torch.randn(1, 1, DIM))
        self.pos = nn.Parameter(torch.randn(1, 5, DIM))
        self.norm1 = nn.LayerNorm(DIM)
        self.qkv = nn.Linear(DIM, 3 * DIM)
        self.proj = nn.Linear(DIM, DIM)
        self.norm2 = nn.LayerNorm(DIM)
        self.fc1 = nn.Linear(DIM, 24)
        self.fc2 = nn.Linear(24, DIM)
        self.norm = nn.LayerNorm(DIM)
        self.head = nn.Linear(DIM, 5)

    def attend(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        if self.chunks:
            q, k, v = (t.view(b, n, HEADS, -1).transpose(1, 2) for t in self.qkv(x).chunk(3, dim=-1))
        else:
            q, k, v = self.qkv(x).reshape(b, n, 3, HEADS, c // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(b, n, c))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.pos
        x = x + self.attend(self.norm1(x))
        x = x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return self.head(self.norm(x)[:, 0])


class GroupedQuery(nn.Module):
    """Four query heads share two key and value heads."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        self.q = nn.Linear(DIM, 4 * INNER, bias=False)
        self.k = nn.Linear(DIM, 2 * INNER, bias=False)
        self.v = nn.Linear(DIM, 2 * INNER, bias=False)
        self.o = nn.Linear(4 * INNER, 12, bias=False)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q = self.q(x).view(b, n, 4, INNER).transpose(1, 2)
        k = self.k(x).view(b, n, 2, INNER).transpose(1, 2)
        v = self.v(x).view(b, n, 2, INNER).transpose(1, 2)
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        else:
            k, v = (t.repeat_interleave(2, dim=1) for t in (k, v))
            y = (q @ k.transpose(-2, -1) / math.sqrt(INNER)).softmax(-1) @ v
        return self.head(F.relu(self.o(y.transpose(1, 2).reshape(b, n, -1))).mean(1))


class Separate(nn.Module):
    """BERT's way: three projections, ``[B, N, H, E]``, scale and softmax by hand, a residual and a norm after it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(DIM, 12)
        self.q = nn.Linear(12, HEADS * INNER)
        self.k = nn.Linear(12, HEADS * INNER)
        self.v = nn.Linear(12, HEADS * INNER)
        self.o = nn.Linear(HEADS * INNER, 12)
        self.norm = nn.LayerNorm(12)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        q, k, v = (p(x).unflatten(-1, (HEADS, INNER)).permute(0, 2, 1, 3) for p in (self.q, self.k, self.v))
        scores = torch.matmul(q, k.transpose(-1, -2)) * INNER**-0.5
        y = torch.matmul(F.softmax(scores, dim=-1), v).permute(0, 2, 1, 3).contiguous().flatten(2)
        return self.head(self.norm(x + self.o(y)).mean(1))


class Gated(nn.Module):
    """Two gated layers: one splits a wide projection (GLU), one has a projection for each half (SwiGLU)."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(DIM, 24)
        self.gate = nn.Linear(12, 20, bias=False)
        self.up = nn.Linear(12, 20, bias=False)
        self.down = nn.Linear(20, 8, bias=False)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.glu(self.wide(x), dim=-1)
        return self.head(F.relu(self.down(F.silu(self.gate(x)) * self.up(x))))


class Mixer(nn.Module):
    """MLP-Mixer's block: one network over tokens, on the transposed tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 2, stride=2)
        self.norm = nn.LayerNorm(8)
        self.token1 = nn.Linear(16, 12)
        self.token2 = nn.Linear(12, 16)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        y = self.token2(F.gelu(self.token1(self.norm(x).transpose(1, 2))))
        return self.head((x + y.transpose(1, 2)).mean(1))


class Encoder(nn.Module):
    """PyTorch's own encoder layer, with ``nn.MultiheadAttention`` inside."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(DIM, DIM)
        self.layer = nn.TransformerEncoderLayer(DIM, HEADS, 24, dropout=0.1, batch_first=True)
        self.head = nn.Linear(DIM, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.embed(x)).mean(1))


class TiedHead(nn.Module):
    """A language model in miniature: the head is the embedding; the exporter keeps the head's name."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        self.fc1 = nn.Linear(16, 24)
        self.fc2 = nn.Linear(24, 16)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 20, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        return self.head(self.norm(x + self.fc2(F.gelu(self.fc1(x)))))


_BLOCK_PARAMS = (
    3 * DIM * 16 + DIM + DIM + 5 * DIM          # patch, class token, positions
    + 3 * 2 * DIM                               # three norms
    + DIM * 3 * DIM + 3 * DIM + DIM * DIM + DIM # q, k, v and projection
    + DIM * 24 + 24 + 24 * DIM + DIM            # MLP
    + DIM * 5 + 5
)  # fmt: skip
_BLOCK_MACS = (
    4 * 3 * DIM * 16 + 5 * (DIM * 3 * DIM + DIM * DIM + 2 * DIM * 24) + 2 * HEADS * 5 * 5 * INNER + DIM * 5
)
_STREAM = (
    f"16 | patch.weight:0 patch.bias:0 cls:2 pos:2 {affine('norm1')} qkv.weight:1 proj.weight:0 proj.bias:0 "
    f"{affine('norm2')} fc1.weight:1 fc2.weight:0 fc2.bias:0 {affine('norm')} head.weight:1"
)
_GQA = {
    # Two key heads, each with two query heads of size four.
    "q.weight:0": "4 | q.weight:0*4 k.weight:0*2",
    "q.weight:0#2": "2 | q.weight:0*8 k.weight:0*4 v.weight:0*4 o.weight:1*8",
    "q.weight:0#3": "2 | q.weight:0*8 o.weight:1*8",
    "v.weight:0": "4 | v.weight:0*2 o.weight:1*4",
    "o.weight:0": "12 | o.weight:0 head.weight:1",
}
_GQA_PARAMS = 16 * 16 + 2 * 16 * 8 + 16 * 12 + 12 * 5 + 5
_GQA_MACS = 6 * (16 * 16 + 2 * 16 * 8 + 16 * 12) + 2 * 4 * 6 * 6 * 4 + 12 * 5

CASES = (
    Case(
        "vit_unbind", Vit, images(),
        {
            "cls:2": _STREAM,
            # Unbinding leaves q, k and v one shape: a head's dimension goes from all three.
            "qkv.weight:0": "4 | qkv.weight:0*12 qkv.bias:0*12 proj.weight:1*4",
            "qkv.weight:0#2": "4 | qkv.weight:0*12 qkv.bias:0*12 proj.weight:1*4",
            "fc1.weight:0": "24 | fc1.weight:0 fc1.bias:0 fc2.weight:1",
        },
        params=_BLOCK_PARAMS, macs=_BLOCK_MACS, exact=False,
        locks={"pos:1": "size of the input in space"},
    ),
    Case(
        "vit_chunk", lambda: Vit(chunks=True), images(),
        {
            "cls:2": _STREAM,
            "qkv.weight:0": "4 | qkv.weight:0*12 qkv.bias:0*12 proj.weight:1*4",
            # Chunks are free of each other: q with k, and v by itself.
            "qkv.weight:0#2": "4 | qkv.weight:0*8 qkv.bias:0*8",
            "qkv.weight:0#3": "4 | qkv.weight:0*4 qkv.bias:0*4 proj.weight:1*4",
            "fc1.weight:0": "24 | fc1.weight:0 fc1.bias:0 fc2.weight:1",
        },
        params=_BLOCK_PARAMS, macs=_BLOCK_MACS, exact=False,
    ),
    Case("gqa_repeat", lambda: GroupedQuery(False), tokens, _GQA, _GQA_PARAMS, _GQA_MACS),
    Case("gqa_enable", lambda: GroupedQuery(True), tokens, _GQA, _GQA_PARAMS, _GQA_MACS),
    Case(
        "separate", Separate, tokens,
        {
            "embed.weight:0": "12 | embed.weight:0 embed.bias:0 q.weight:1 k.weight:1 v.weight:1 o.weight:0 o.bias:0 "
            f"{affine('norm')} head.weight:1",
            "q.weight:0": "4 | q.weight:0*4 q.bias:0*4 k.weight:0*4 k.bias:0*4 v.weight:0*4 v.bias:0*4 o.weight:1*4",
            "q.weight:0#2": "4 | q.weight:0*4 q.bias:0*4 k.weight:0*4 k.bias:0*4",
            "v.weight:0": "4 | v.weight:0*4 v.bias:0*4 o.weight:1*4",
        },
        params=16 * 12 + 12 + 3 * (12 * 16 + 16) + 16 * 12 + 12 + 2 * 12 + 12 * 5 + 5,
        macs=6 * (16 * 12 + 3 * 12 * 16 + 16 * 12) + 2 * 4 * 6 * 6 * 4 + 12 * 5,
        exact=False,
    ),
    Case(
        "gated", Gated, lambda batch: tokens(batch)[:, 0],
        {
            "wide.weight:0": "12 | wide.weight:0*2 wide.bias:0*2 gate.weight:1 up.weight:1",
            "gate.weight:0": "20 | gate.weight:0 up.weight:0 down.weight:1",
            "down.weight:0": "8 | down.weight:0 head.weight:1",
        },
        params=16 * 24 + 24 + 2 * 12 * 20 + 20 * 8 + 8 * 5 + 5,
        macs=16 * 24 + 2 * 12 * 20 + 20 * 8 + 8 * 5,
    ),
    Case(
        "mixer", Mixer, images(),
        {
            "patch.weight:0": f"8 | patch.weight:0 patch.bias:0 {affine('norm')} head.weight:1",
            "token1.weight:0": "12 | token1.weight:0 token1.bias:0 token2.weight:1",
        },
        params=3 * 8 * 4 + 8 + 2 * 8 + 16 * 12 + 12 + 12 * 16 + 16 + 8 * 5 + 5,
        macs=16 * 3 * 8 * 4 + 8 * 2 * 16 * 12 + 8 * 5,
        locks={"token1.weight:1": "size of the input in space", "token2.weight:0": "aten.conv2d"},
        exact=False,
    ),
    Case(
        "encoder", Encoder, tokens,
        {
            "embed.weight:0": "16 | embed.weight:0 embed.bias:0 layer.self_attn.in_proj_weight:1 "
            "layer.self_attn.out_proj.weight:0 layer.self_attn.out_proj.bias:0 layer.linear1.weight:1 "
            f"layer.linear2.weight:0 layer.linear2.bias:0 {affine('layer.norm1')} {affine('layer.norm2')} "
            "head.weight:1",
            "layer.self_attn.in_proj_weight:0": "4 | layer.self_attn.in_proj_weight:0*12 "
            "layer.self_attn.in_proj_bias:0*12 layer.self_attn.out_proj.weight:1*4",
            "layer.self_attn.in_proj_weight:0#2": "4 | layer.self_attn.in_proj_weight:0*12 "
            "layer.self_attn.in_proj_bias:0*12 layer.self_attn.out_proj.weight:1*4",
            "layer.linear1.weight:0": "24 | layer.linear1.weight:0 layer.linear1.bias:0 layer.linear2.weight:1",
        },
        params=16 * 16 + 16 + 16 * 48 + 48 + 16 * 16 + 16 + 2 * 16 * 24 + 24 + 16 + 4 * 16 + 16 * 5 + 5,
        macs=6 * (16 * 16 + 16 * 48 + 16 * 16 + 2 * 16 * 24) + 2 * 4 * 6 * 6 * 4 + 16 * 5,
        exact=False,
    ),
    Case(
        "tied_head", TiedHead,
        lambda batch: torch.randint(0, 20, (batch, 6), generator=torch.Generator().manual_seed(1)),
        {
            "fc1.weight:1": f"16 | head.weight:1 fc1.weight:1 fc2.weight:0 fc2.bias:0 {affine('norm')}",
            "fc1.weight:0": "24 | fc1.weight:0 fc1.bias:0 fc2.weight:1",
        },
        params=20 * 16 + 16 * 24 + 24 + 24 * 16 + 16 + 2 * 16,
        macs=6 * (2 * 16 * 24 + 16 * 20),
        locks={"head.weight:0": "rows are looked up by number"},
        exact=False,
    ),
)  # fmt: skip
