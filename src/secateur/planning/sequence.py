"""One plan after another: the indices of the second, which refer to what the first leaves, in original terms."""

from __future__ import annotations

from collections.abc import Mapping

from secateur.errors import PlanError
from secateur.planning.choice import Blocks

Indices = tuple[int, ...]
Kept = Mapping[str, Mapping[int, Indices]]
Permuted = Mapping[str, Mapping[int, Blocks]]


def compose(
    kept: Kept, permuted: Permuted, then_kept: Kept, then_permuted: Permuted
) -> tuple[dict[str, dict[int, Indices]], dict[str, dict[int, Blocks]]]:
    """What stays after both, and what differs between blocks.

    Raises:
        PlanError: the second plan keeps indices that the first leaves nothing at.
    """
    out_kept: dict[str, dict[int, Indices]] = {}
    out_blocks: dict[str, dict[int, Blocks]] = {}
    for name in dict.fromkeys((*kept, *then_kept)):
        first, second = kept.get(name, {}), then_kept.get(name, {})
        for axis in dict.fromkeys((*first, *second)):
            before, after = permuted.get(name, {}).get(axis), then_permuted.get(name, {}).get(axis)
            if axis in first and axis in second:
                _check(name, axis, first[axis], second[axis])
            if before is None and after is None:
                indices = _of(first.get(axis), second.get(axis))
            else:
                blocks = _blocks(before, after, first, second, axis)
                if len(set(blocks.indices)) > 1:
                    out_blocks.setdefault(name, {})[axis] = blocks
                    indices = tuple(range(len(blocks.indices[0])))
                else:
                    indices = blocks.indices[0]
            out_kept.setdefault(name, {})[axis] = indices
    return out_kept, out_blocks


def _check(name: str, axis: int, first: Indices, second: Indices) -> None:
    if second and second[-1] >= len(first):
        raise PlanError(
            f"the second plan keeps index {second[-1]} of '{name}' axis {axis}, "
            f"where the first leaves {len(first)}; make it on the model that the first plan gives"
        )


def _of(first: Indices | None, second: Indices | None) -> Indices:
    """The original indices of what the second keeps of the first."""
    if first is None:
        assert second is not None
        return tuple(second)
    return tuple(first) if second is None else tuple(first[i] for i in second)


def _blocks(
    before: Blocks | None,
    after: Blocks | None,
    first: Mapping[int, Indices],
    second: Mapping[int, Indices],
    axis: int,
) -> Blocks:
    if before is None:
        assert after is not None
        return Blocks(after.over, after.rows, tuple(_of(first.get(axis), i) for i in after.indices))
    rows, left = before.rows, list(range(len(before.indices)))
    if before.over in second:
        left = sorted({i // before.rows for i in second[before.over]})
        rows = len(second[before.over]) // len(left)
    inner = after.indices if after is not None else [second.get(axis)] * len(left)
    if (after is not None and len(after.indices) != len(left)) or left[-1] >= len(before.indices):
        raise PlanError(
            f"the second plan speaks of {len(inner)} blocks along axis {axis}, where the first leaves "
            f"{len(before.indices)}; make it on the model that the first plan gives"
        )
    return Blocks(
        before.over, rows, tuple(_of(before.indices[b], i) for b, i in zip(left, inner, strict=True))
    )
