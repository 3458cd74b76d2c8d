"""Operator rules on networks of two or three layers: which units they leave, and that a cut of these verifies."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.coupling import RULES, Facts, find_groups
from secateur.graph import trace
from secateur.surgery import cut_groups
from tests.coupling.small import Forward, Net, Rule, check, linear
from tests.zoo import random_plan, written

A = {"a.weight:0": "12 | a.weight:0 b.weight:1"}
B = {"b.weight:0": "8 | b.weight:0 c.weight:1"}


def rotate(t: Tensor) -> Tensor:
    one, two = t.chunk(2, -1)
    return torch.cat([-two, one], -1)


def interleaved(t: Tensor) -> Tensor:
    one, two = t[..., ::2], t[..., 1::2]
    return torch.stack([-two, one], -1).flatten(-2)


def rows(f: Callable[[Tensor], Tensor]) -> Forward:
    """``f`` between the second and the third layer."""
    return lambda m, x: m.c(f(m.b(m.a(x).relu())))


CASES = (
    Rule("argmax locks its axis", lambda m, x: m.c(m.b(m.a(x))).argmax(-1), A | B),
    Rule("argmin inside", lambda m, x: m.c(h := m.b(m.a(x))) + h.argmin(-1, keepdim=True), A),
    Rule("max with indices", lambda m, x: tuple(m.b(m.a(x)).max(-1)), A),
    Rule("amax", lambda m, x: (h := m.b(m.a(x))).amax(-1, keepdim=True) + m.c(h), A | B, restricted=True),
    Rule("maximum of two", lambda m, x: m.c(torch.max(h := m.b(m.a(x)), -h)), A | B),
    Rule("minimum with a scalar tensor", lambda m, x: m.c(torch.min(_h := m.b(m.a(x)), x[:, :1])), A | B),
    Rule("where", rows(lambda h: torch.where(h > 0, h, h * 0.1)), A | B),
    Rule("clamp, masked_fill", rows(lambda h: h.clamp(-1, 1).masked_fill(h < 0, 0.5)), A | B),
    Rule("sum is a contraction", lambda m, x: m.c(h := m.b(m.a(x))) + h.sum(-1, keepdim=True), A | B),
    Rule("softmax", rows(lambda h: h.softmax(-1)), A | B, restricted=True),
    Rule("normalize", rows(lambda h: F.normalize(h, dim=-1)), A | B, restricted=True),
    Rule("std", rows(lambda h: h / h.std(-1, keepdim=True)), A | B, restricted=True),
    Rule("rms norm", rows(lambda h: F.rms_norm(h, (8,))), A | B, restricted=True),
    Rule("logsumexp", lambda m, x: m.c(h := m.b(m.a(x))) + h.logsumexp(-1, keepdim=True), A | B, restricted=True),
    Rule("cumsum locks", rows(lambda h: h.cumsum(-1)), A),
    Rule("sort locks", rows(lambda h: h.sort(-1).values), A),
    Rule("topk locks", rows(lambda h: h.topk(8, -1).values), A),
    Rule("roll locks", rows(lambda h: h.roll(1, -1)), A),
    Rule("look-up locks", rows(lambda h: h.gather(1, h.argsort(-1))), A),
    Rule("a list in the code reorders", rows(lambda h: h[:, [1, 0, 2, 3, 4, 5, 7, -2]]), A | B),
    Rule("a list for select", rows(lambda h: h.index_select(-1, torch.tensor([7, 6, 5, 4, 3, 2, 1, 0]))), A | B),
    # Each pair lies at another distance, and goes as one.
    Rule("flip pairs the ends", rows(lambda h: h + h.flip(-1)),
         A | {"b.weight:0": "4 | b.weight:0*2 c.weight:1*2"}),
    Rule("selecting locks one position", lambda m, x: m.c(h := m.b(m.a(x))) + h[:, 3:4],
         A | {"b.weight:0": "7 | b.weight:0 c.weight:1"}),
    Rule("unsqueeze, squeeze, movedim", rows(lambda h: h.unsqueeze(0).movedim(2, 0).squeeze(1).t()), A | B),
    Rule("broadcast_tensors", lambda m, x: m.c(sum(torch.broadcast_tensors(m.b(m.a(x)), x[:, :1]))), A | B),
    Rule("expand", lambda m, x: m.c(m.b(m.a(x)).unsqueeze(1).expand(-1, 3, -1)).mean(1), A | B),
    Rule("narrow", lambda m, x: m.c(torch.cat([(h := m.b(m.a(x))).narrow(1, 4, 4), h.narrow(1, 0, 4)], 1)),
         A | {"b.weight:0": "4 | b.weight:0 c.weight:1", "b.weight:0#2": "4 | b.weight:0 c.weight:1"}),
    Rule("uneven chunks", lambda m, x: m.b(torch.cat(m.a(x).chunk(5, -1)[::-1], -1)),
         {f"a.weight:0{'' if i == 1 else f'#{i}'}": "3 | a.weight:0 b.weight:1" for i in (1, 2, 3, 4)},
         ),
    Rule("repeat", lambda m, x: m.b(m.a(x).repeat(1, 3)),
         {"a.weight:0": "4 | a.weight:0 b.weight:1*3", "b.weight:1": "3 | b.weight:1*4"},
         linear(("a", 16, 4), ("b", 12, 5))),
    Rule("repeat_interleave", lambda m, x: m.b(m.a(x).repeat_interleave(3, -1)),
         {"a.weight:0": "4 | a.weight:0 b.weight:1*3", "b.weight:1": "3 | b.weight:1*4"},
         linear(("a", 16, 4), ("b", 12, 5))),
    # Halves rotated into each other: a position and its partner go together.
    Rule("rotary, halves", lambda m, x: m.b(rotate(h := m.a(x)) * 0.5 + h),
         {"a.weight:0": "6 | a.weight:0*2 b.weight:1*2"}, linear(("a", 16, 12), ("b", 12, 5))),
    Rule("rotary, pairs", lambda m, x: m.b(interleaved(h := m.a(x)) * 0.5 + h),
         {"a.weight:0": "6 | a.weight:0*2 b.weight:1*2"}, linear(("a", 16, 12), ("b", 12, 5))),
    Rule("tensors made in the program", lambda m, x: m.c(m.b(m.a(x)) + torch.ones(8) + torch.zeros(1)), A | B),
    Rule("new_zeros in a concatenation", lambda m, x: m.b(torch.cat([m.a(x), x.new_zeros(x.shape[0], 4)], 1)),
         {"a.weight:0": "8 | a.weight:0 b.weight:1", "b.weight:1": "4 | b.weight:1"},
         linear(("a", 16, 8), ("b", 12, 5))),
    Rule("positions in the program are selected", rows(lambda h: h * torch.arange(8.0) + torch.eye(8)[3]), A | B),
    Rule("weights made by a layer", lambda m, x: torch.bmm(m.a(x).unsqueeze(1), m.h(x).view(-1, 12, 5)).squeeze(1),
         {"a.weight:0": "12 | a.weight:0 h.weight:0*5"}, linear(("a", 16, 12), ("h", 16, 60))),
    Rule("batch and tokens merged", lambda m, x: m.c(m.b(m.a(x).reshape(-1, 12)).view(-1, 7, 8)), A | B,
         inputs=(2, 7, 16)),
    Rule("instance norm, prelu",
         lambda m, x: m.c(m.p(F.instance_norm(m.a(x)))).amax(-1),
         {"a.weight:0": "8 | a.weight:0 p.weight:0 c.weight:1"},
         lambda: {"a": nn.Conv1d(4, 8, 3, bias=False), "p": nn.PReLU(8), "c": nn.Conv1d(8, 5, 1, bias=False)},
         (2, 4, 9)),
    Rule("unfold, fold",
         lambda m, x: m.o(
             F.fold(m.w(F.unfold(m.a(x), 3, padding=1).transpose(1, 2)).transpose(1, 2), (8, 8), 2, stride=2)
         ),
         {"a.weight:0": "6 | a.weight:0 w.weight:1*9", "w.weight:0": "4 | w.weight:0*4 o.weight:1"},
         lambda: {"a": nn.Conv2d(3, 6, 1, bias=False), "w": nn.Linear(54, 16, bias=False),
                  "o": nn.Conv2d(4, 2, 1, bias=False)},
         (2, 3, 4, 4)),
    Rule("pixel_unshuffle, upsampling, reflecting pads",
         lambda m, x: m.c(
             F.interpolate(F.pixel_unshuffle(F.pad(m.a(x), (1, 1, 1, 1), mode="reflect"), 2), scale_factor=2)
         ),
         {"a.weight:0": "6 | a.weight:0 c.weight:1*4"},
         lambda: {"a": nn.Conv2d(3, 6, 1, bias=False), "c": nn.Conv2d(24, 2, 1, bias=False)},
         (2, 3, 6, 6)),
    Rule("native channel shuffle", lambda m, x: m.c(F.channel_shuffle(m.a(x), 2)),
         {"a.weight:0": "2 | a.weight:0*4 c.weight:1*4", "a.weight:0#2": "4 | a.weight:0*2 c.weight:1*2"},
         lambda: {"a": nn.Conv2d(3, 8, 1, bias=False), "c": nn.Conv2d(8, 2, 1, bias=False)},
         (2, 3, 4, 4)),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
def test_groups_and_a_cut(case: Rule) -> None:
    check(case)


def test_a_kernel_of_one_with_a_stride_does_not_keep_positions() -> None:
    """Length two, padding one, stride two: two positions come out, but they are others."""
    model = Net(
        lambda m, x: m.o(m.conv(m.t(x))),
        t=nn.Linear(8, 2), conv=nn.Conv1d(2, 4, 1, stride=2, padding=1), o=nn.Linear(2, 3),
    )  # fmt: skip
    groups = find_groups(trace(model, torch.randn(2, 2, 8)))
    assert not {m.param for g in groups for m in g.members} & {"t.weight", "o.weight"}


@torch.library.custom_op("secateur_tests::scaled", mutates_args=())
def scaled(x: Tensor, factor: float) -> Tensor:
    """An operator of a user's own that acts position by position."""
    return x * factor


@scaled.register_fake
def _(x: Tensor, factor: float) -> Tensor:
    return torch.empty_like(x)


def test_a_users_own_operator_locks_until_it_has_a_rule() -> None:
    model = Net(lambda m, x: m.b(scaled(m.a(x), 0.5)), a=nn.Linear(16, 12), b=nn.Linear(12, 5))
    graph = trace(model.eval(), torch.randn(2, 16))
    locked = find_groups(graph)
    assert len(locked) == 0 and dict(locked.unknown) == {"secateur_tests.scaled.default": 1}
    reasons = {f"{lock.param}:{lock.axis}": lock for lock in locked.locked}
    assert "secateur_tests.scaled" in reasons["a.weight:0"].reason
    assert "find_groups(graph, rules=" in reasons["a.weight:0"].remedy
    assert reasons["b.weight:1"].positions == 12

    groups = find_groups(graph, rules={"secateur_tests::scaled": lambda f, a: a.x.axes})
    assert {g.name: written(g) for g in groups} == {"a.weight:0": "12 | a.bias:0 a.weight:0 b.weight:1"}
    assert not groups.unknown
    result = cut_groups(groups, random_plan(groups, 1))
    assert result.verification.max_relative_error < 1e-5
    assert "secateur_tests::scaled" not in RULES


def test_a_wrong_rule_is_said() -> None:
    model = Net(lambda m, x: m.b(scaled(m.a(x), 0.5)), a=nn.Linear(16, 12), b=nn.Linear(12, 5))

    def transposed(f: Facts, a: object) -> tuple:  # type: ignore[type-arg]
        return a.x.axes[::-1]  # type: ignore[attr-defined]

    with pytest.raises(AssertionError, match=r"secateur_tests\.scaled.*\(12, 2\) for shape \(2, 12\)"):
        find_groups(trace(model.eval(), torch.randn(2, 16)), rules={"secateur_tests::scaled": transposed})
