"""One plan after another: the indices of the second, which refer to what the first leaves, in original terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
        two = _Two(name, kept.get(name, {}), then_kept.get(name, {}))
        for axis in dict.fromkeys((*two.first, *two.second)):
            before, after = permuted.get(name, {}).get(axis), then_permuted.get(name, {}).get(axis)
            if before is None and after is None:
                _check(name, axis, two.first.get(axis), two.second.get(axis))
                indices = _of(two.first.get(axis), two.second.get(axis))
            else:
                blocks = two.blocks(axis, before, after)
                if len(set(blocks.indices)) > 1:
                    out_blocks.setdefault(name, {})[axis] = blocks
                    indices = tuple(range(len(blocks.indices[0])))
                else:
                    indices = blocks.indices[0]
            out_kept.setdefault(name, {})[axis] = indices
    return out_kept, out_blocks


def _check(name: str, axis: int, first: Indices | None, second: Indices | None) -> None:
    if first is not None and second and max(second) >= len(first):
        raise PlanError(
            f"the second plan keeps index {max(second)} of '{name}' axis {axis}, "
            f"where the first leaves {len(first)}; make it on the model that the first plan gives"
        )


def _of(first: Indices | None, second: Indices | None) -> Indices:
    """The original indices of what the second keeps of the first."""
    if first is None:
        assert second is not None
        return tuple(second)
    return tuple(first) if second is None else tuple(first[i] for i in second)


@dataclass(frozen=True)
class _Two:
    """What both plans say of one parameter."""

    name: str
    first: Mapping[int, Indices]
    second: Mapping[int, Indices]

    def blocks(self, axis: int, before: Blocks | None, after: Blocks | None) -> Blocks:
        """What stays in each block after both, where at least one of them tells blocks apart."""
        if before is None:
            assert after is not None
            return Blocks(after.over, after.rows, self._each(axis, [self.first.get(axis)], after.indices))
        left, rows = list(before.indices), before.rows
        if before.over in self.second:
            over = self.second[before.over]
            numbers = sorted({i // before.rows for i in over})
            _check(self.name, before.over, tuple(range(before.rows * len(left))), over)
            left, rows = [before.indices[b] for b in numbers], len(over) // len(numbers)
        inner = after.indices if after is not None else [self.second.get(axis)]
        if len(inner) not in (1, len(left)):
            raise PlanError(
                f"the second plan keeps '{self.name}' axis {axis} in {len(inner)} blocks, where the first leaves "
                f"{len(left)}; make it on the model that the first plan gives"
            )
        return Blocks(before.over, rows, self._each(axis, left, inner))

    def _each(
        self, axis: int, first: Sequence[Indices | None], second: Sequence[Indices | None]
    ) -> tuple[Indices, ...]:
        count = max(len(first), len(second))
        outer, inner = (x if len(x) == count else [*x] * count for x in (first, second))
        for a, b in zip(outer, inner, strict=True):
            _check(self.name, axis, a, b)
        return tuple(_of(a, b) for a, b in zip(outer, inner, strict=True))
