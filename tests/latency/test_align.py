"""Operators of differently wide networks: which is which, and which lengths they are padded to."""

from __future__ import annotations

import numpy as np

from secateur.bench import Node, Profile
from secateur.latency.align import align
from secateur.latency.fitting import fit
from secateur.latency.lengths import Lengths


def profiled(*nodes: Node) -> Profile:
    return Profile(sum(n.share for n in nodes), (0.0, 0.0), 1.0, nodes, False)


def test_what_a_runtime_counts_itself_is_matched_by_its_place() -> None:
    """The second network has one rewrite more, in front, so that all after it are counted one up."""

    def conv(name: str) -> Node:
        return Node("Conv", name, ((1, 8), (1, 8)), 0.3)

    def rewrite(number: int, width: int, share: float) -> Node:
        return Node("Reorder", f"Reorder_token_{number}", ((1, width), (1, width)), share)

    one = profiled(conv("a"), conv("b"), rewrite(0, 32, 0.1), conv("c"), rewrite(1, 64, 0.2))
    two = profiled(
        conv("a"), rewrite(0, 16, 0.05), conv("b"), rewrite(1, 24, 0.08), conv("c"), rewrite(2, 40, 0.15)
    )
    found = {a.name: a for a in align([one, two])}
    assert found["a"].shares.tolist() == [0.3, 0.3 + 0.05]  # it is there because of that one
    assert [o.op for o in found.values()] == ["Conv", "Conv", "Reorder", "Conv", "Reorder"]
    reorders = [o for o in found.values() if o.op == "Reorder"]
    assert [o.shares.tolist() for o in reorders] == [[0.1, 0.08], [0.2, 0.15]]
    assert [o.shapes[1][0] for o in reorders] == [(1, 24), (1, 40)]


def test_blocks_that_shapes_tell_are_believed() -> None:
    """An output that is padded to sixteens costs the padded width, an input what it is, however noisy the times."""
    rng = np.random.default_rng(0)
    widths = np.array([[64, 64], *(8 * rng.integers(1, 9, (11, 2)))])
    table = Lengths((("in", 0, 0), ("out", 0, 0)), widths)
    padded = -(-widths[:, 1] // 16) * 16
    times = widths[:, 0] * padded * 1e-4 * rng.uniform(0.95, 1.05, len(widths))
    times /= times[0]
    profiles = [
        profiled(Node("Conv", "conv", ((1, int(i)), (int(p), int(i)), (1, int(p))), float(t)))
        for (i, _), p, t in zip(widths, padded, times, strict=True)
    ]
    found = fit(align(profiles), times, table, 1.0, {})
    both = [t for t in found.terms if len(t.lengths) == 2]
    assert [(t.lengths, t.quanta[1]) for t in both] == [(table.references, 16)] and both[0].quanta[0] < 16
