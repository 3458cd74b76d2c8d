"""A small language model in the manner of Llama: as many equal layers as one likes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DIM, HEADS, PAIRS, INNER, WIDE = 16, 4, 2, 8, 24


def words(batch: int = 2, vocabulary: int = 20) -> Tensor:
    """Tokens ``[batch, 6]``."""
    return torch.randint(vocabulary, (batch, 6), generator=torch.Generator().manual_seed(1))


class Layer(nn.Module):
    """Grouped-query attention with rotary positions, by default at the default scale, and a gated layer."""

    def __init__(self, scale: float | None = None) -> None:
        super().__init__()
        self.scale = scale
        self.norm1 = nn.RMSNorm(DIM)
        self.q = nn.Linear(DIM, HEADS * INNER, bias=False)
        self.k = nn.Linear(DIM, PAIRS * INNER, bias=False)
        self.v = nn.Linear(DIM, PAIRS * INNER, bias=False)
        self.o = nn.Linear(HEADS * INNER, DIM, bias=False)
        self.norm2 = nn.RMSNorm(DIM)
        self.gate = nn.Linear(DIM, WIDE, bias=False)
        self.up = nn.Linear(DIM, WIDE, bias=False)
        self.down = nn.Linear(WIDE, DIM, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        h = self.norm1(x)
        q, k, v = (p(h).unflatten(-1, (-1, INNER)).transpose(1, 2) for p in (self.q, self.k, self.v))
        q, k = (t * cos + torch.cat([-t[..., INNER // 2 :], t[..., : INNER // 2]], -1) * sin for t in (q, k))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scale, enable_gqa=True)
        x = x + self.o(y.transpose(1, 2).flatten(2))
        h = self.norm2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Language(nn.Module):
    """Tokens to logits; the embedding is the head, and the frequencies are in no checkpoint."""

    def __init__(self, layers: int = 5, vocabulary: int = 20, scale: float | None = None) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, DIM)
        self.layers = nn.ModuleList(Layer(scale) for _ in range(layers))
        self.norm = nn.RMSNorm(DIM)
        self.head = nn.Linear(DIM, vocabulary, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer(
            "frequencies", 10.0 ** -torch.arange(INNER // 2, dtype=torch.float32), persistent=False
        )

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        angles = torch.arange(tokens.shape[1], device=tokens.device)[:, None] * self.frequencies
        cos, sin = (f(torch.cat([angles, angles], -1)).to(x.dtype) for f in (torch.cos, torch.sin))
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.head(self.norm(x))
