"""Rules of operators that look up, write and find positions by index, torchvision's among them."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secateur.coupling import find_groups
from secateur.graph import trace
from secateur.surgery import cut_groups
from tests.coupling.small import Net, Rule, check, linear
from tests.zoo import random_plan, randomise, written

AT = torch.tensor([2, 0])


def put(h: Tensor) -> Tensor:
    out = torch.zeros_like(h)
    out[:, AT] = h[:, :2] * 2
    return out


def added(h: Tensor) -> Tensor:
    return h.index_add(1, AT, h[:, :2])


def scattered(h: Tensor) -> Tensor:
    where = torch.tensor([1, 3]).view(1, 2, 1).expand(h.shape[0], -1, h.shape[2])
    return h.scatter(1, where, h[:, 2:4])


def rows_put(m: Any, x: Tensor) -> Tensor:
    words = m.a(x)
    return m.c(words.masked_scatter((x[:, :1] > 0).expand_as(words), m.b(x)))


def values_put(m: Any, x: Tensor) -> Tensor:
    words = m.a(x)
    return m.d(m.c(words.masked_scatter(words > 0, m.b(x))))


BESIDE: dict[str, Any] = {
    "layers": linear(("a", 16, 12), ("b", 16, 12), ("c", 12, 8), ("d", 8, 5)),
    "inputs": (4, 16),
}
CHANNELS = {"a.weight:0": "12 | a.weight:0 b.weight:1"}
TOKENS = {"layers": linear(("a", 16, 12), ("b", 12, 5)), "inputs": (2, 4, 16)}
IMAGES: dict[str, Any] = {
    "layers": lambda: {"a": nn.Conv2d(3, 6, 1, bias=False), "b": nn.Conv2d(6, 2, 1, bias=False)},
    "inputs": (2, 3, 4, 4),
}
MAPS = {"a.weight:0": "6 | a.weight:0 b.weight:1"}

CASES = (
    Rule("written at indices", lambda m, x: m.b(put(m.a(x))), CHANNELS, **TOKENS),
    Rule("added at indices", lambda m, x: m.b(added(m.a(x))), CHANNELS, **TOKENS),
    Rule("selected by indices", lambda m, x: m.b(m.a(x).index_select(1, AT)), CHANNELS, **TOKENS),
    Rule("scattered", lambda m, x: m.b(scattered(m.a(x))), CHANNELS, **TOKENS),
    Rule("writing at channels locks them", lambda m, x: m.c(m.b(m.a(x)).index_fill(-1, AT, 0.5)), CHANNELS),
    Rule("looked up at places apart",
         lambda m, x: m.b(m.a(x).permute(2, 0, 1, 3)[AT, :, :, AT].permute(1, 2, 0).unsqueeze(-1)), MAPS, **IMAGES),
    Rule("looked up behind the channels", lambda m, x: m.b(m.a(x)[:, :, AT, AT].unsqueeze(-1)), MAPS, **IMAGES),
    Rule("a grid of coordinates",
         lambda m, x: m.b(m.a(x) + sum(torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="xy"))),
         MAPS, **IMAGES),
    Rule("a grid of two layers",
         lambda m, x: m.c((g := torch.meshgrid(m.a(x)[0], m.b(x)[0], indexing="ij"))[0]).sum(0) + m.d(g[1].t()).sum(0),
         {"a.weight:0": "12 | a.weight:0 d.weight:1", "b.weight:0": "8 | b.weight:0 c.weight:1"},
         linear(("a", 16, 12), ("b", 16, 8), ("c", 8, 5), ("d", 12, 5)), (2, 16)),
    Rule("rows put in by a mask", rows_put, {"a.weight:0": "12 | a.weight:0 b.weight:0 c.weight:1"}, **BESIDE),
    Rule("values put in by a mask lock both", values_put, {"c.weight:0": "8 | c.weight:0 d.weight:1"}, **BESIDE),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
def test_groups_and_a_cut(case: Rule) -> None:
    check(case)


class Passing(nn.Module):
    """Tokens whose first feature is large go on; how many these are follows from the values."""

    def __init__(self) -> None:
        super().__init__()
        self.score, self.a, self.b = nn.Linear(16, 1), nn.Linear(16, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        chosen = torch.where(self.score(x)[:, 0] > 0)[0]
        h = self.a(x).relu()
        out = torch.zeros_like(h)
        out[chosen] = h[chosen].reshape(-1, 3, 4).flatten(1) * 0.5
        return self.b(h[chosen]), self.b(out)


@pytest.mark.parametrize("batch", [1, 2, 5, 9])
def test_sizes_that_follow_from_values(batch: int) -> None:
    model = Passing().eval()
    randomise(model)
    groups = find_groups(trace(model, torch.randn(batch, 16)))
    assert {g.name: written(g) for g in groups} == {
        "a.weight:0": "3 | a.bias:0*4 a.weight:0*4 b.weight:1*4",
        "a.weight:0#2": "4 | a.bias:0*3 a.weight:0*3 b.weight:1*3",
    }
    result = cut_groups(groups, random_plan(groups, 3), dtype=torch.float64)
    assert result.verification.max_relative_error <= 1e-10
    x = torch.randn(30, 16)
    passing = int((model.score(x) > 0).sum())
    assert 0 < passing < 30
    assert [len(t) for t in result.module(x)] == [passing, 30]


def test_regions_of_images(torchvision: ModuleType) -> None:
    boxes = torch.tensor([[0, 0.5, 0.5, 3, 3], [1, 1, 0, 4, 2]])

    def forward(m: Net, x: Tensor) -> Tensor:
        pooled: Tensor = m.b(torchvision.ops.roi_align(m.a(x), boxes, (2, 2), sampling_ratio=2))
        return pooled

    check(Rule("regions", forward, MAPS, **IMAGES))


def test_what_is_found_by_values_is_locked(torchvision: ModuleType) -> None:
    model = Net(lambda m, x: m.b(m.a(x))[torchvision.ops.nms(m.c(x), m.c(x)[:, 0], 0.5)],
                **linear(("a", 16, 12), ("b", 12, 5), ("c", 16, 4))())  # fmt: skip
    groups = find_groups(trace(model.eval(), torch.rand(6, 16)))
    assert {g.name for g in groups} == {"a.weight:0"} and not groups.unknown
    assert sum(k.positions for k in groups.locked if (k.param, k.axis) == ("c.weight", 0)) == 4
