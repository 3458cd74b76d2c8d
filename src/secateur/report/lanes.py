"""Where the picture of a model's groups puts things: weights on lines, groups in lanes beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from secateur.report.coupled import Coupled, Line, Strand, Weight

LINE = 19.0
"""Height of a line."""

LANES, LANES_END = 440, 800
"""Where the lanes begin, and how far they may reach."""

_HEAD = 25.0
_THICK, _THIN, _GAP = 20.0, 1.6, 10.0
_MANY = 60  # lanes side by side; beyond, the smallest are left out


@dataclass(frozen=True)
class Row:
    """A line of the picture: a weight, or the head of a repeated block."""

    y: float
    label: str
    depth: int
    times: int
    weight: Weight | None


@dataclass(frozen=True)
class Lane:
    """Where a strand runs: the middle and the width of its lane, and between which rows."""

    x: float
    width: float
    first: int
    last: int


def place_rows(shown: Coupled, top: float) -> tuple[list[Row], float]:
    """Every weight on a line of its own under ``top``, repeated blocks under a head; and where the last line ends."""
    rows: list[Row] = []
    y = top

    def place(lines: Sequence[Line], prefix: str, depth: int, times: int) -> None:
        nonlocal y
        for line in lines:
            if isinstance(line, Weight):
                name = ".".join(line.path)
                rows.append(Row(y, name.removeprefix(prefix), depth, times, line))
                y += LINE
            elif len(line.lines) == 1 and isinstance(line.lines[0], Weight):
                rows.append(Row(y, line.title, depth, times * line.times, line.lines[0]))
                y += LINE
            else:
                y += _HEAD - LINE
                rows.append(Row(y, line.title.removeprefix(prefix), depth, line.times, None))
                y += LINE
                place(line.lines, f"{line.first}.", depth + 1, times * line.times)
                y += 6

    place(shown.lines, "", 0, 1)
    return rows, y


def place_lanes(rows: Sequence[Row], strands: Mapping[str, Strand]) -> tuple[dict[str, Lane], int]:
    """A lane for each strand that is seen, long ones to the left; lanes are used again once they are free."""
    spans: dict[str, tuple[int, int]] = {}
    for i, row in enumerate(rows):
        for mark in row.weight.marks if row.weight is not None else ():
            first, _ = spans.get(mark.strand, (i, i))
            spans[mark.strand] = (first, i)
    most = max((strands[k].params for k in spans), default=1.0) or 1.0
    columns: list[list[tuple[int, int]]] = []
    column_of: dict[str, int] = {}
    for key in sorted(spans, key=lambda k: (spans[k][0] - spans[k][1], -strands[k].params, spans[k][0])):
        first, last = spans[key]
        free = [c for c, taken in enumerate(columns) if all(last < a or b < first for a, b in taken)]
        if not free and len(columns) == _MANY:
            continue
        if not free:
            columns.append([])
        column = free[0] if free else len(columns) - 1
        columns[column].append((first, last))
        column_of[key] = column
    thick = [
        max((strands[k].params for k, c in column_of.items() if c == i), default=0)
        for i in range(len(columns))
    ]
    widths = [max(_THIN, _THICK * t / most) for t in thick]
    gap = _GAP
    room = LANES_END - LANES
    if sum(widths) + gap * len(widths) > room:
        gap = max(1.5, (room - sum(widths)) / max(len(widths), 1))
    shrink = min(1.0, room / max(sum(widths) + gap * len(widths), 1.0))
    middles, x = [], float(LANES)
    for width in widths:
        middles.append(x + shrink * width / 2)
        x += shrink * (width + gap)
    lanes = {
        key: Lane(
            round(middles[c], 1),
            round(shrink * max(_THIN, _THICK * strands[key].params / most), 1),
            *spans[key],
        )
        for key, c in column_of.items()
    }
    return lanes, len(spans) - len(lanes)
