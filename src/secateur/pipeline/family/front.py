"""Which points of a family no other beats: less of the cost, more of the quality (Pareto's front)."""

from __future__ import annotations

from collections.abc import Sequence


def dominators(costs: Sequence[float], qualities: Sequence[float]) -> list[int | None]:
    """For each point, one that costs no more and is no worse, and is better in one of the two; None on the front.

    Of several, the one with the best quality. Points that are equal in both do not beat each other.
    """
    found: list[int | None] = []
    for cost, quality in zip(costs, qualities, strict=True):
        better = [
            i
            for i, (c, q) in enumerate(zip(costs, qualities, strict=True))
            if c <= cost and q >= quality and (c < cost or q > quality)
        ]
        found.append(max(better, key=lambda i: (qualities[i], -costs[i])) if better else None)
    return found


def spread(count: int, wanted: int | None) -> list[int]:
    """Which of ``count`` points in a row are chosen: the ends first, the rest evenly between; all for None."""
    if wanted is None or wanted >= count:
        return list(range(count))
    if wanted <= 1:
        return [count // 2][:wanted]
    return sorted({round(i * (count - 1) / (wanted - 1)) for i in range(wanted)})
