"""A picture of which layers are coupled, and how much each group holds, as one SVG file that needs nothing else.

Weights stand in the order of the program, one line each. Groups run beside them as lanes, from the first weight that
they reach into to the last: a residual stream is a long lane, the channels between two layers a short one. A lane is as
wide as it holds parameters; a dot says that the weight of the line makes the group's units, a ring that it reads them.
Blocks that repeat are drawn once. What is locked is grey.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from secateur.report.causes import by_cause
from secateur.report.charts import Svg, tag
from secateur.report.coupled import Coupled, Strand, coupled
from secateur.report.figures import quantity
from secateur.report.lanes import LANES, LINE, Lane, Row, place_lanes, place_rows

WIDTH = 1200
_NAME, _SHAPE, _BAR, _END = 20, 416, 1086, 1180
_TOP = 118.0

_STYLE = """
.gp { max-width: 100%; height: auto;
  --paper: #fdfdfa; --ink: #1c251f; --soft: #647067; --rule: #e3e5dc; --band: #f1f3ec;
  --stream: #2563a8; --channels: #1e7a4c; --wide: #a15c00; --locked: #9aa19c;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "DejaVu Sans", sans-serif; }
@media (prefers-color-scheme: dark) {
  .gp { --paper: #121713; --ink: #e7ece7; --soft: #9daaa0; --rule: #2a332d; --band: #1a211c;
    --stream: #78b0f0; --channels: #62c795; --wide: #f0b45b; --locked: #6d7871; } }
.gp text { font-size: 11.5px; fill: var(--ink); }
.gp .title { font-size: 19px; font-weight: 600; }
.gp .soft, .gp .column { fill: var(--soft); }
.gp .column { font-size: 10.5px; }
.gp .name { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 11px; }
.gp .shape { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 10px;
  fill: var(--soft); }
.gp .times { font-weight: 700; }
.gp .paper { fill: var(--paper); } .gp .band { fill: var(--band); }
.gp .guide { stroke: var(--rule); } .gp .wire { stroke: var(--ink); stroke-width: 1; opacity: .55; }
.gp .stream { --tone: var(--stream); } .gp .channels { --tone: var(--channels); }
.gp .wide { --tone: var(--wide); } .gp .locked { --tone: var(--locked); }
.gp .lane { fill: var(--tone); opacity: .38; stroke: var(--paper); stroke-width: .5; } .gp .fill { fill: var(--tone); }
.gp .writes { fill: var(--tone); stroke: var(--paper); stroke-width: 1; }
.gp .reads { fill: var(--paper); stroke: var(--tone); stroke-width: 2; }
.gp .passes { fill: var(--tone); stroke: var(--paper); stroke-width: 1; }
"""


def picture(record: Mapping[str, Any], title: str = "") -> Svg:
    """The picture of a model's groups.

    Args:
        record: the content of ``analysis.json``.
        title: the model's name.

    Returns:
        An SVG document, 1200 units wide, for light and dark screens.
    """
    shown = coupled(record)
    rows, height = place_rows(shown, _TOP)
    lanes, left_out = place_lanes(rows, shown.strands)
    label = max((lane.x + lane.width / 2 for lane in lanes.values()), default=0.0) + 34.0
    label = max(label, LANES + 110.0)
    total = max(float(record.get("params") or 0), 1.0)
    body = [
        *_head(record, title, rows, shown, lanes, label),
        *_bands(rows),
        *_guides(rows, label - 12),
        *(_lane(shown.strands[key], lane, rows, total) for key, lane in lanes.items()),
        *(part for row in rows for part in _line(row, lanes, shown.strands)),
        *_labels(rows, lanes, shown.strands, total, label),
        *_bars(rows),
    ]
    notes = _notes(record, shown, left_out, total)
    foot = [tag("text", note, x=_NAME, y=height + 24 + 17 * i, class_="soft") for i, note in enumerate(notes)]
    height += 24 + 17 * len(notes) + (8 if notes else 0)
    ground = tag("rect", x=0, y=0, width=WIDTH, height=round(height), class_="paper")
    return tag(
        "svg", Svg(f"<style>{_STYLE}</style>"), ground, *body, *foot, xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {round(height)}", width=WIDTH, height=round(height), class_="gp", role="img",
        aria_label=f"Groups of {title or 'the model'}: which layers are coupled",
    )  # fmt: skip


def _head(
    record: Mapping[str, Any],
    title: str,
    rows: Sequence[Row],
    shown: Coupled,
    lanes: Mapping[str, Lane],
    label: float,
) -> Iterator[Svg]:
    groups = len(record["groups"])
    said = (
        f"{quantity(record['params'], 'params')} parameters, {quantity(record['prunable_share'], 'share')} of them "
        f"prunable, in {groups} group{'s' if groups != 1 else ''}"
    )
    yield tag("text", title or "Groups", x=_NAME, y=34, class_="title")
    yield tag("text", said, x=_NAME, y=54, class_="soft")
    x = float(_NAME)
    kinds = {strand.kind for key, strand in shown.strands.items() if key in lanes}
    for kind, words in (
        ("stream", "residual stream"), ("channels", "channels between layers"),
        ("wide", "units of several positions (heads, groups)"), ("locked", "locked"),
    ):  # fmt: skip
        if kind in kinds:
            yield tag("rect", x=x, y=68, width=16, height=9, class_=f"lane {kind}")
            yield tag("text", words, x=x + 22, y=77, class_="soft")
            x += 22 + 6.1 * len(words) + 20
    modes = {mark.mode for row in rows if row.weight is not None for mark in row.weight.marks}
    for mode, words in (("writes", "makes the units"), ("reads", "reads them"), ("passes", "passes them on")):
        if mode not in modes:
            continue
        yield from _mark(mode, x + 5, 72.5, "channels")
        yield tag("text", words, x=x + 15, y=77, class_="soft")
        x += 15 + 6.1 * len(words) + 18
    held = "units, and the share of all parameters that stand at their positions (the width of a lane)"
    held = held if label < 620 else "units, and share of the parameters"
    for at, words, anchor in (
        (_NAME, "weight", "start"), (_SHAPE, "shape", "end"),
        (LANES, "groups", "start"),
        (label, held, "start"),
        (_END, "parameters, of all copies" if any(row.times > 1 for row in rows) else "parameters", "end"),
    ):  # fmt: skip
        yield tag("text", words, x=at, y=_TOP - 14, text_anchor=anchor, class_="column")


def _bands(rows: Sequence[Row]) -> Iterator[Svg]:
    """The ground behind each repeated block."""
    for i, row in enumerate(rows):
        if row.weight is not None:
            continue
        inside = list(_until(rows[i + 1 :], row.depth))
        bottom = inside[-1].y + LINE + 2
        yield tag(
            "rect", x=_NAME - 12 + 8 * row.depth, y=row.y - 3, width=_END + 12 - _NAME + 12 - 16 * row.depth,
            height=round(bottom - row.y + 3, 1), rx=5, class_="band",
        )  # fmt: skip


def _until(rows: Sequence[Row], depth: int) -> Iterator[Row]:
    for row in rows:
        if row.depth <= depth:
            return
        yield row


def _guides(rows: Sequence[Row], end: float) -> Iterator[Svg]:
    for row in rows:
        if row.weight is not None:
            y = row.y + LINE / 2
            yield tag("line", x1=LANES - 12, x2=end, y1=y, y2=y, class_="guide")


def _lane(strand: Strand, lane: Lane, rows: Sequence[Row], total: float) -> Svg:
    top, bottom = rows[lane.first].y + 3, rows[lane.last].y + LINE - 3
    words = f"{strand.name}: {_units(strand)}, {quantity(strand.params, 'params')} parameters"
    words += f" ({quantity(strand.params / total, 'share')}) of {strand.layers} weights"
    words += f"; locked: {strand.reason}" if strand.kind == "locked" else ""
    return tag(
        "rect", tag("title", words), x=round(lane.x - lane.width / 2, 1), y=top, width=lane.width,
        height=round(bottom - top, 1), rx=min(3.0, lane.width / 2), class_=f"lane {strand.kind}",
    )  # fmt: skip


def _line(row: Row, lanes: Mapping[str, Lane], strands: Mapping[str, Strand]) -> Iterator[Svg]:
    x, base = _NAME + 12 * row.depth, row.y + LINE / 2 + 4
    if row.weight is None:
        yield tag("text", f"{row.times} × {_shortened(row.label, 56)}", x=x, y=base, class_="name times")
        return
    shape = " × ".join(str(n) for n in row.weight.shape)
    room = int((_SHAPE - 6.1 * len(shape) - 12 - x) / 6.7)
    name = _shortened(row.label if row.times == 1 or row.depth else f"{row.times} × {row.label}", room)
    yield tag("text", tag("title", row.weight.param), name, x=x, y=base, class_="name")
    yield tag("text", shape, x=_SHAPE, y=base, text_anchor="end", class_="shape")
    marks = [m for m in row.weight.marks if m.strand in lanes]
    y = row.y + LINE / 2
    if len(marks) > 1:
        at = [lanes[m.strand].x for m in marks]
        yield tag("line", x1=min(at), x2=max(at), y1=y, y2=y, class_="wire")
    for mark in marks:
        yield from _mark(mark.mode, lanes[mark.strand].x, y, strands[mark.strand].kind)


def _mark(mode: str, x: float, y: float, kind: str) -> Iterator[Svg]:
    if mode == "passes":
        yield tag("path", d=f"M{x} {y - 5} L{x + 5} {y} L{x} {y + 5} L{x - 5} {y} Z", class_=f"passes {kind}")
    else:
        yield tag("circle", cx=x, cy=y, r=4.5 if mode == "writes" else 3.8, class_=f"{mode} {kind}")


def _labels(
    rows: Sequence[Row],
    lanes: Mapping[str, Lane],
    strands: Mapping[str, Strand],
    total: float,
    label: float,
) -> Iterator[Svg]:
    """What begins at each line: units, positions for each, share of the parameters."""
    begins: dict[int, list[str]] = {}
    for key, lane in lanes.items():
        begins.setdefault(lane.first, []).append(key)
    for i, keys in begins.items():
        keys.sort(key=lambda k: (strands[k].kind == "locked", -strands[k].params))
        x, base = label, rows[i].y + LINE / 2 + 4
        for n, key in enumerate(keys):
            strand = strands[key]
            each = " each" if rows[i].times > 1 and strand.kind != "stream" else ""
            words = f"{_units(strand)} · {quantity(strand.params / total, 'share')}{each}"
            if strand.kind == "locked":
                share = quantity(min(strand.params / total, 1.0), "share")
                words = f"{quantity(strand.units, 'count')} locked · {share} · {strand.cause}"
            left = int((_BAR - 14 - x - 14) / 6.0)
            if left < min(len(words), 12):
                yield tag("text", f"+{len(keys) - n}", x=x, y=base, class_="soft")
                break
            words = _cut(words, left)
            yield tag("rect", x=x, y=base - 8, width=8, height=8, rx=1.5, class_=f"fill {strand.kind}")
            yield tag("text", words, x=x + 13, y=base, class_="soft" if strand.kind == "locked" else None)
            x += 13 + 6.0 * len(words) + 10


def _bars(rows: Sequence[Row]) -> Iterator[Svg]:
    sizes = [row.weight.params * row.times if row.weight is not None else 0.0 for row in rows]
    most = max(sizes, default=1.0) or 1.0
    for row, size in zip(rows, sizes, strict=True):
        if row.weight is None:
            continue
        y, room = row.y + LINE / 2 - 3.5, _END - _BAR - 46.0
        long = room * size / most
        free = round(long * row.weight.prunable, 1)
        yield tag("rect", x=_BAR, y=y, width=free, height=7, class_="fill channels")
        if long - free > 0.05:
            yield tag("rect", x=_BAR + free, y=y, width=round(long - free, 1), height=7, class_="fill locked")
        yield tag("text", quantity(size, "params"), x=_END, y=y + 7.5, text_anchor="end", class_="soft")


def _notes(record: Mapping[str, Any], shown: Coupled, left_out: int, total: float) -> list[str]:
    """Why the grey lanes are grey, most parameters first, and what is not drawn."""
    causes = [cause for cause in by_cause(record["locked"]) if cause.params]
    notes = [
        f"locked by {c.first['operator']}: {c.first['reason']} "
        f"({quantity(c.params / total, 'share')} of the parameters stand at these positions)"
        for c in causes[:6]
    ]
    if len(causes) > 6:
        notes.append(f"and {len(causes) - 6} smaller causes")
    if left_out:
        notes.append(f"{left_out} smaller groups that run beside these are not drawn")
    unseen = len(record["groups"]) - sum(not key.startswith("lock ") for key in shown.strands)
    if unseen:
        notes.append(f"{unseen} group{'s' if unseen != 1 else ''} of vectors alone not drawn")
    return [_cut(note, 190) for note in notes]


def _units(strand: Strand) -> str:
    units = f"{quantity(strand.units, 'count')} unit{'s' if strand.units != 1 else ''}"
    return f"{units} of {strand.positions}" if strand.positions > 1 else units


def _shortened(name: str, room: int) -> str:
    """A name with its middle left out where it is too long: the last part says most."""
    if len(name) <= room or room < 8:
        return name
    tail = min(len(name.rpartition(".")[2]) + 12, room - 4)
    return f"{name[: room - tail - 1]}…{name[-tail:]}"


def _cut(words: str, room: int) -> str:
    return words if len(words) <= room else words[: max(room - 1, 1)].rstrip() + "…"


__all__ = ["picture"]
