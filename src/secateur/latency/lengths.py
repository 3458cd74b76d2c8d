"""Which axis of the program a runtime's dimension is: known by the company it keeps.

A runtime tells the shapes that it runs, not whose they are. But networks of random widths were run, and a dimension
that has, in every one of them, the length of one axis of the program (or a fixed multiple of it, or that rounded up to
a block where the runtime chose to) is that axis. A dozen networks leave no room for chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from secateur.cost import Reference
from secateur.coupling import Groups, Value

BLOCKS = (2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Explained:
    """An axis, by its place in the table, and the block that its length is rounded up to."""

    place: int
    block: int


@dataclass(frozen=True)
class Lengths:
    """Axes of different lengths over several networks.

    Args:
        references: one name for each.
        values: int64 ``[networks, axes]``; the first network is the dense one.
    """

    references: tuple[Reference, ...]
    values: np.ndarray

    @cached_property
    def _by_shape(self) -> dict[bytes, int]:
        return {
            (column / column[0]).round(9).tobytes(): i
            for i, column in reversed(list(enumerate(self.values.T)))
        }

    def explain(self, dimension: np.ndarray) -> Explained | None:
        """The axis that an int64 ``[networks]`` dimension is the length of; None for none."""
        place = self._by_shape.get((dimension / dimension[0]).round(9).tobytes())
        if place is not None:
            return Explained(place, 1)
        for block in BLOCKS:
            padded = -(-self.values // block) * block
            either = (padded == dimension[:, None]) | (self.values == dimension[:, None])
            hits = np.flatnonzero(either.all(axis=0))
            if len(hits):
                nearest = np.abs(self.values[:, hits] - dimension[:, None]).sum(axis=0).argmin()
                return Explained(int(hits[nearest]), block)
        return None


def lengths(groups: Groups, alive: Sequence[np.ndarray]) -> Lengths:
    """The axes that change in networks of which ``alive``, bool ``[labels]`` each, lives; parameters' names first."""
    columns: dict[bytes, tuple[Reference, np.ndarray]] = {}
    for reference, classes in _named_axes(groups):
        column = np.array([int(mask[classes].sum()) for mask in alive], dtype=np.int64)
        if (column != column[0]).any():
            columns.setdefault(column.tobytes(), (reference, column))
    table = [column for _, column in columns.values()]
    return Lengths(
        tuple(reference for reference, _ in columns.values()),
        np.array(table).T if table else np.empty((len(alive), 0), dtype=np.int64),
    )


def _named_axes(groups: Groups) -> Iterator[tuple[Reference, np.ndarray]]:
    """Every different axis of parameters and values, once, as the classes of its positions."""
    coupling, seen = groups.coupling, set()
    values = [(name, 0, axes) for name, axes in coupling.state_axes.items()]
    for node in groups.graph.nodes:
        value = coupling.values.get(node)
        outputs = value if isinstance(value, list) else [value]
        values += [(node.name, i, one.axes) for i, one in enumerate(outputs) if isinstance(one, Value)]
    for name, output, axes in values:
        for i, axis in enumerate(axes):
            classes = coupling.classes(axis)
            if id(classes) not in seen:
                seen.add(id(classes))
                yield (name, output, i), classes
