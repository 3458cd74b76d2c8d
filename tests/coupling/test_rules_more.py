"""Rules of operators that few networks use: products, distances, complex numbers, joins, pooling with places."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.coupling.small import Rule, check, linear

A = {"a.weight:0": "12 | a.weight:0 b.weight:1"}
B = {"b.weight:0": "8 | b.weight:0 c.weight:1"}
PAIR: dict[str, Any] = {"layers": linear(("a", 16, 12), ("b", 16, 12)), "inputs": (4, 16)}
BOTH = {"a.weight:0": "12 | a.weight:0 b.weight:0"}
EACH = {"a.weight:0": "12 | a.weight:0 c.weight:1", "b.weight:0": "8 | b.weight:0 d.weight:1"}
TWO: dict[str, Any] = {
    "layers": linear(("a", 16, 12), ("b", 16, 8), ("c", 12, 3), ("d", 8, 3)),
    "inputs": (4, 16),
}
IMAGES: dict[str, Any] = {
    "layers": lambda: {"a": nn.Conv2d(3, 6, 1, bias=False), "b": nn.Conv2d(6, 2, 1, bias=False)},
    "inputs": (2, 3, 8, 8),
}
MAPS = {"a.weight:0": "6 | a.weight:0 b.weight:1"}
VOLUMES: dict[str, Any] = {
    "layers": lambda: {"a": nn.Conv3d(3, 6, 1, bias=False), "b": nn.Conv3d(6, 2, 1, bias=False)},
    "inputs": (2, 3, 4, 4, 4),
}
TOKENS: dict[str, Any] = {"layers": linear(("a", 16, 12), ("b", 12, 5)), "inputs": (2, 4, 16)}


def turned(h: Tensor, angle: Tensor) -> Tensor:
    """A rotary embedding in complex numbers: pairs of neighbours."""
    pairs = torch.view_as_complex(h.unflatten(-1, (6, 2)))
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(-2)


def sampled(m: nn.Module, x: Tensor) -> Tensor:
    """Four heads of three channels, each looked up at five points that it computes."""
    grid = m.c(x.mean((2, 3))).tanh().view(-1, 5, 1, 2)
    found = F.grid_sample(m.a(x).view(-1, 3, 8, 8), grid, align_corners=False)
    return m.b(found.view(x.shape[0], 12, 5))


CASES = (
    Rule("tensordot", lambda m, x: torch.tensordot(m.a(x), m.b(x), dims=([1], [1])), BOTH, **PAIR),
    Rule("inner", lambda m, x: torch.inner(m.a(x), m.b(x)), BOTH, **PAIR),
    Rule("vecdot", lambda m, x: torch.linalg.vecdot(m.a(x), m.b(x)), BOTH, **PAIR),
    Rule("vdot", lambda m, x: torch.vdot(m.a(x)[0], m.b(x)[0]) + x, BOTH, **PAIR),
    Rule("outer", lambda m, x: m.d(m.c(torch.outer(m.a(x)[0], m.b(x)[0]).t()).t()), EACH, **TWO),
    Rule("addr", lambda m, x: m.d(m.c(torch.addr(x[:1, :1], m.a(x)[0], m.b(x)[0]).t()).t()), EACH, **TWO),
    Rule("addmv", lambda m, x: m.c(torch.addmv(m.a.weight[:, 0], m.a.weight, x[0])) + m.d(m.b(x)), EACH, **TWO),
    Rule("addbmm",
         lambda m, x: torch.addbmm(x[:3, :3], m.c(m.a(x)).unsqueeze(2), m.d(m.b(x)).unsqueeze(1)), EACH, **TWO),
    Rule("a chain of matrices", lambda m, x: torch.linalg.multi_dot([x, m.a.weight.t(), m.b.weight.t(), x[0, :5]]),
         A, linear(("a", 16, 12), ("b", 12, 5)), (4, 16)),
    Rule("kronecker product", lambda m, x: m.k(torch.kron(m.a(x)[:1], m.b(x)[:1])),
         {"a.weight:0": "3 | a.weight:0 k.weight:1*4", "b.weight:0": "4 | b.weight:0 k.weight:1*3"},
         linear(("a", 16, 3), ("b", 16, 4), ("k", 12, 2)), (4, 16)),
    Rule("bilinear", lambda m, x: m.c(m.w(m.a(x), m.b(x))),
         {"a.weight:0": "12 | a.weight:0 w.weight:1", "b.weight:0": "8 | b.weight:0 w.weight:2",
          "w.weight:0": "6 | w.weight:0 w.bias:0 c.weight:1"},
         lambda: {"a": nn.Linear(16, 12, bias=False), "b": nn.Linear(16, 8, bias=False), "w": nn.Bilinear(12, 8, 6),
                  "c": nn.Linear(6, 3, bias=False)}, (4, 16)),
    Rule("cosine similarity", lambda m, x: F.cosine_similarity(m.a(x), m.b(x), dim=-1), BOTH, restricted=True, **PAIR),
    Rule("pairwise distance", lambda m, x: F.pairwise_distance(m.a(x), m.b(x), keepdim=True), BOTH, restricted=True,
         **PAIR),
    Rule("all distances", lambda m, x: torch.cdist(m.a(x), m.b(x)), BOTH, restricted=True, **PAIR),
    Rule("norms of linalg", lambda m, x: m.c(h := m.b(m.a(x))) / torch.linalg.norm(h, dim=-1, keepdim=True), A | B,
         restricted=True),
    Rule("sums that skip",
         lambda m, x: m.c(h := m.b(m.a(x))) + h.nansum(-1, keepdim=True) + h.count_nonzero(-1)[:, None],
         A | B),
    Rule("means that skip", lambda m, x: m.c(h := m.b(m.a(x))) + h.nanmean(-1, keepdim=True), A | B, restricted=True),
    Rule("the k-th value locks", lambda m, x: m.c(h := m.b(m.a(x))) + h.kthvalue(3, -1, True)[0], A),
    Rule("argsort locks", lambda m, x: m.c(h := m.b(m.a(x))) + h.argsort(-1)[:, :1], A),
    Rule("running maximum locks", lambda m, x: m.c(m.b(m.a(x)).cummax(-1)[0]), A),
    Rule("rotary, complex", lambda m, x: m.b(turned(m.a(x), m.t.weight)),
         {"a.weight:0": "6 | a.weight:0*2 b.weight:1*2 t.weight:1"},
         lambda: {"a": nn.Linear(16, 12, bias=False), "b": nn.Linear(12, 5, bias=False), "t": nn.Embedding(4, 6)},
         (2, 4, 16)),
    Rule("made complex", lambda m, x: m.b(torch.complex(h := m.a(x), h.cos()).conj().imag), A, **TOKENS),
    Rule("mixed by frequency", lambda m, x: m.b(torch.fft.irfft(torch.fft.rfft(m.a(x), dim=1), n=4, dim=1)), A,
         **TOKENS),
    Rule("mixed by frequency, locked", lambda m, x: m.c(torch.fft.fft2(m.b(m.a(x))).real), A),
    Rule("hstack, vstack", lambda m, x: m.c(torch.vstack([torch.hstack([h := m.a(x), h[:, :4]])] * 2)[:4]),
         {"a.weight:0": "4 | a.weight:0 c.weight:1*2", "a.weight:0#2": "8 | a.weight:0 c.weight:1"},
         linear(("a", 16, 12), ("c", 16, 5)), (4, 16)),
    Rule("dstack", lambda m, x: m.c(torch.dstack([m.a(x), m.a(x)])),
         {"a.weight:0": "12 | a.weight:0 c.weight:1*2"}, linear(("a", 16, 12), ("c", 24, 5)), (2, 4, 16)),
    Rule("triangles and diagonals", lambda m, x: m.c(m.b(m.a(x)).tril()).diagonal(), A),
    Rule("diagonal of the rest", lambda m, x: m.b(m.a(x).unflatten(1, (2, 2)).diagonal(0, 1, 2).transpose(1, 2)), A,
         **TOKENS),
    Rule("causal mask", lambda m, x: m.b((torch.ones(4, 4).tril() @ m.a(x)).ravel().view(-1, 4, 12)), A, **TOKENS),
    Rule("one-hot and look-ups",
         lambda m, x: m.b(m.a(x) * F.one_hot((x[..., :1] > 0).long(), 2).sum(-1)
                          + torch.bucketize(m.a(x), torch.arange(3.0))), A, **TOKENS),
    Rule("taken along", lambda m, x: m.c(torch.take_along_dim(m.b(m.a(x)), x.argsort(0)[:, :8], 0)), A),
    Rule("bags of rows",
         lambda m, x: m.c(m.e((x > 0).long())),
         {"e.weight:1": "12 | e.weight:1 c.weight:1"},
         lambda: {"e": nn.EmbeddingBag(2, 12, mode="max"), "c": nn.Linear(12, 5, bias=False)}, (4, 16)),
    Rule("unpooling", lambda m, x: m.b(F.max_unpool2d(*F.max_pool2d(m.a(x), 2, return_indices=True), 2)), MAPS,
         **IMAGES),
    Rule("neighbouring channels", lambda m, x: m.b(F.local_response_norm(m.a(x), 4)), MAPS, restricted=True, **IMAGES),
    Rule("neighbouring channels, padded inside",
         lambda m, x: m.b(F.avg_pool2d(m.a(x), (3, 1), 1, (1, 0))),
         {"a.weight:0": "6 | a.weight:0 b.weight:1"},
         lambda: {"a": nn.Conv1d(3, 6, 1, bias=False), "b": nn.Conv1d(6, 2, 1, bias=False)}, (2, 3, 8), True),
    Rule("pooling volumes", lambda m, x: m.b(F.adaptive_max_pool3d(m.a(x), 2)), MAPS, **VOLUMES),
    Rule("exact nearest", lambda m, x: m.b(F.interpolate(m.a(x), scale_factor=2, mode="nearest-exact")), MAPS,
         **IMAGES),
    Rule("a grid of matrices",
         lambda m, x: m.b(F.grid_sample(m.a(x), F.affine_grid(x[:, 0, :2, :3], [2, 3, 8, 8], False))),
         MAPS, **IMAGES),
    Rule("a grid of its own for each head", sampled,
         {"a.weight:0": "4 | a.weight:0*3 b.weight:1*3 c.weight:0*10",
          "a.weight:0#2": "3 | a.weight:0*4 b.weight:1*4"},
         lambda: {"a": nn.Conv2d(3, 12, 1, bias=False), "b": nn.Conv1d(12, 2, 1, bias=False),
                  "c": nn.Linear(3, 40, bias=False)}, (2, 3, 8, 8)),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
def test_groups_and_a_cut(case: Rule) -> None:
    check(case)
