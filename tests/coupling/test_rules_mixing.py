"""Rules of operators that read across an axis: attention that compares positions, windows over channels."""

from __future__ import annotations

import pytest
import torch.nn.functional as F
from torch import Tensor, nn

from tests.coupling.small import Rule, check, linear


def causal(m: nn.Module, x: Tensor) -> Tensor:
    """Learnt queries, keys and values; the length of the queries is what ``c`` reads."""
    keys, values = (t.weight.expand(x.shape[0], -1, -1) for t in (m.k, m.v))
    return m.c(F.scaled_dot_product_attention(m.q.weight * m.a(x)[:, None], keys, values, is_causal=True).mT)


CASES = (
    Rule("causal attention ties queries to keys", causal,
         {"q.weight:0": "6 | q.weight:0 k.weight:0 v.weight:0 c.weight:1",
          "q.weight:1": "12 | a.weight:0 q.weight:1 k.weight:1"},
         linear(("q", 12, 6), ("k", 12, 6), ("v", 4, 6), ("a", 16, 12), ("c", 6, 5)), restricted=True),
    Rule("causal attention between other lengths locks them", causal,
         {"q.weight:1": "12 | a.weight:0 q.weight:1 k.weight:1"},
         linear(("q", 12, 6), ("k", 12, 7), ("v", 4, 7), ("a", 16, 12), ("c", 6, 5))),
    # Channels that neighbours gate: 12 of them, read by a gate of one filter and by the next layer.
    Rule("one filter over channels", lambda m, x: m.b((h := m.a(x)) * m.gate(h.mean(2).unsqueeze(1)).sigmoid().mT),
         {"a.weight:0": "12 | a.weight:0 b.weight:1"},
         lambda: {"a": nn.Conv1d(4, 12, 1, bias=False), "gate": nn.Conv1d(1, 1, 3, padding=1, bias=False),
                  "b": nn.Conv1d(12, 5, 1, bias=False)},
         (2, 4, 7), restricted=True),
    Rule("several filters over channels lock them",
         lambda m, x: m.b((h := m.a(x)) * m.gate(h.mean(2).unsqueeze(1)).sum(1).unsqueeze(2)),
         {"gate.weight:0": "3 | gate.weight:0"},
         lambda: {"a": nn.Conv1d(4, 12, 1, bias=False), "gate": nn.Conv1d(1, 3, 3, padding=1, bias=False),
                  "b": nn.Conv1d(12, 5, 1, bias=False)},
         (2, 4, 7)),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
def test_groups_and_a_cut(case: Rule) -> None:
    check(case)
