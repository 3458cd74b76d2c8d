"""Small charts in SVG, drawn here so that the page needs no library and no script.

Two kinds. A *track* is one row of a table: a horizontal scale in percent of the width, so that it stretches
with the cell while the numbers beside it stay text. A *line chart* has a fixed view box. Colours come from
classes that the page's style sheet defines, light and dark alike; nothing is told by colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape


class Svg(str):
    """Markup that is safe as it is: everything variable in it was escaped by :func:`tag`."""

    def __html__(self) -> str:
        return str(self)


@dataclass(frozen=True)
class Series:
    """A line of a chart: points ``(x, y)``, a class for its style, and how its points are marked.

    Where the points are not ``joined``, there is no line.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    style: str
    marker: str = "dot"
    joined: bool = True


@dataclass(frozen=True)
class Guide:
    """A horizontal line at a value that matters, such as a limit."""

    value: float
    label: str
    style: str = "guide"


@dataclass(frozen=True)
class Scale:
    """Maps ``[low, high]`` to percent of a track, kept within it."""

    low: float
    high: float

    def __call__(self, value: float) -> float:
        span = (self.high - self.low) or 1.0
        return min(100.0, max(0.0, 100.0 * (value - self.low) / span))


def tag(name: str, *children: str, **attributes: object) -> Svg:
    """An element. Attribute names lose a trailing ``_`` and turn ``_`` into ``-``; text is escaped."""
    attrs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = "".join(child if isinstance(child, Svg) else escape(child) for child in children)
    return Svg(f"<{name}{attrs}>{inner}</{name}>" if inner else f"<{name}{attrs}/>")


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers inside ``[low, high]``, about as many as asked."""
    if not high > low:
        return [low]
    raw = (high - low) / max(1, about)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first
    return [round((first + k) * step, 12) for k in range(count + 1)]


def bullet(value: float, limit: float, scale: Scale, bounds: tuple[float, float] | None, met: bool) -> Svg:
    """What was reached (bar), how sure that is (whisker), and the limit (upright line)."""
    start, end = sorted((scale(0.0), scale(value)))
    parts = [
        _rect(0, 100, 9, 10, "ground"),
        _rect(start, max(0.6, end - start), 9, 10, "reached ok" if met else "reached over"),
    ]
    if bounds is not None:
        parts.append(_line(scale(bounds[0]), scale(bounds[1]), 14, 14, "whisker"))
        parts += [_line(scale(b), scale(b), 11, 17, "whisker") for b in bounds]
    if scale.low < 0:
        parts.append(_line(scale(0.0), scale(0.0), 6, 22, "zero"))
    parts.append(_line(scale(limit), scale(limit), 3, 25, "limit"))
    return _track(28, parts)


def bars(before: float, after: float, largest: float) -> Svg:
    """A width before (outline) and after (fill), on the scale of the widest layer."""
    scale = Scale(0.0, largest)
    return _track(
        14,
        [
            _rect(0, scale(before), 2, 10, "before"),
            _rect(0, scale(after), 2, 10, "after" if after < before else "after kept"),
        ],
    )


def dot_interval(
    value: float,
    bounds: tuple[float, float] | None,
    scale: Scale,
    style: str = "",
    tail: float | None = None,
    zero: float | None = None,
    marks: Sequence[float] = (),
) -> Svg:
    """A dot with its interval; ``tail`` adds a thin upright (a 95th percentile), ``zero`` a line across."""
    parts = [_line(scale(m), scale(m), 0, 24, "grid") for m in marks]
    if zero is not None:
        parts.append(_line(scale(zero), scale(zero), 0, 24, "zero"))
    if tail is not None:
        parts.append(_line(scale(value), scale(tail), 12, 12, "reach"))
        parts.append(_line(scale(tail), scale(tail), 8, 16, "tail"))
    if bounds is not None:
        parts.append(_line(scale(bounds[0]), scale(bounds[1]), 12, 12, f"span {style}"))
    parts.append(tag("circle", cx=_percent(scale(value)), cy=12, r=5, class_=f"dot {style}".strip()))
    return _track(24, parts)


def axis(scale: Scale, marks: Sequence[float], label: Callable[[float], str]) -> Svg:
    """The numbers under a column of tracks."""
    parts = []
    for mark in marks:
        at = scale(mark)
        anchor = "start" if at < 4 else "end" if at > 96 else "middle"
        parts.append(_line(at, at, 0, 5, "grid"))
        parts.append(tag("text", label(mark), x=_percent(at), y=17, text_anchor=anchor))
    return _track(20, parts)


def line_chart(
    series: Sequence[Series],
    title: str,
    x_label: Callable[[float], str],
    y_label: Callable[[float], str],
    guides: Sequence[Guide] = (),
    from_zero: bool = False,
    links: Sequence[tuple[tuple[float, float], tuple[float, float]]] = (),
    labels: Sequence[tuple[tuple[float, float], str]] = (),
) -> Svg:
    """Lines over a common x; ``links`` are thin lines between pairs of points (before and after recovery), and
    ``labels`` stand beside points, where there is room."""
    width, height, left, right, top, bottom = 440.0, 250.0, 56.0, 14.0, 14.0, 28.0
    xs = [x for line in series for x, _ in line.points]
    ys = [y for line in series for _, y in line.points] + [g.value for g in guides]
    x_low, x_high = _spread(min(xs), max(xs), 0.0)
    y_low, y_high = _spread(0.0 if from_zero else min(ys), max(ys), 0.07)
    if from_zero:
        y_low = 0.0

    def px(x: float) -> float:
        return round(left + (x - x_low) / (x_high - x_low) * (width - left - right), 1)

    def py(y: float) -> float:
        return round(height - bottom - (y - y_low) / (y_high - y_low) * (height - top - bottom), 1)

    parts: list[str] = []
    for y in ticks(y_low, y_high, 4):
        parts.append(tag("line", x1=left, x2=width - right, y1=py(y), y2=py(y), class_="grid"))
        parts.append(tag("text", y_label(y), x=left - 7, y=py(y) + 4, text_anchor="end"))
    for x in ticks(x_low, x_high, 5):
        anchor = "end" if px(x) > width - right - 12 else "middle"
        parts.append(tag("text", x_label(x), x=px(x), y=height - 8, text_anchor=anchor))
    parts.append(
        tag("line", x1=left, x2=width - right, y1=height - bottom, y2=height - bottom, class_="base")
    )
    for guide in guides:
        y = py(guide.value)
        crowded = any(0 <= y - py(other) < 22 for line in series for _, other in line.points[:3])
        above = y > top + 14 and not crowded
        parts.append(tag("line", x1=left, x2=width - right, y1=y, y2=y, class_=guide.style))
        parts.append(
            tag("text", guide.label, x=left + 4, y=y - 5 if above else y + 14, class_=f"label {guide.style}")
        )
    for (x1, y1), (x2, y2) in links:
        parts.append(tag("line", x1=px(x1), y1=py(y1), x2=px(x2), y2=py(y2), class_="link"))
    for line in series:
        if line.joined:
            path = "M" + " L".join(f"{px(x)} {py(y)}" for x, y in line.points)
            parts.append(tag("path", d=path, class_=f"line {line.style}"))
        parts += [_marker(px(x), py(y), line) for x, y in line.points]
    taken: list[tuple[float, float]] = []
    for (x, y), text in labels:
        at = (px(x), py(y) + (18.0 if py(y) < top + 20 else -9.0))
        if all(abs(at[0] - a) > 36 or abs(at[1] - b) > 13 for a, b in taken):
            anchor = "start" if at[0] < left + 20 else "end" if at[0] > width - right - 20 else "middle"
            parts.append(tag("text", text, x=at[0], y=at[1], text_anchor=anchor, class_="label"))
            taken.append(at)
    return tag(
        "svg", *parts, viewBox=f"0 0 {width:g} {height:g}", class_="chart", role="img", aria_label=title
    )


def legend_mark(series: Series) -> Svg:
    """The sample of a line that stands in the legend."""
    path = [tag("path", d="M1 7 L25 7", class_=f"line {series.style}")] if series.joined else []
    return tag(
        "svg",
        *path,
        _marker(13, 7, series),
        viewBox="0 0 26 14",
        width=26,
        height=14,
        class_="key",
        aria_hidden="true",
    )


def _marker(x: float, y: float, line: Series) -> Svg:
    style = f"dot {line.style}"
    if line.marker == "square":
        return tag("rect", x=round(x - 3.5, 1), y=round(y - 3.5, 1), width=7, height=7, class_=style)
    if line.marker == "hollow":
        return tag("circle", cx=x, cy=y, r=4, class_=f"{style} hollow")
    return tag("circle", cx=x, cy=y, r=4, class_=style)


def _spread(low: float, high: float, share: float) -> tuple[float, float]:
    if not high > low:
        pad = abs(low) * 0.05 or 0.5
        return low - pad, high + pad
    return low - share * (high - low), high + share * (high - low)


def _track(height: int, parts: Sequence[str]) -> Svg:
    return tag("svg", *parts, class_="track", width="100%", height=height, aria_hidden="true")


def _rect(start: float, width: float, y: float, height: float, style: str) -> Svg:
    return tag("rect", x=_percent(start), width=_percent(width), y=y, height=height, rx=2, class_=style)


def _line(x1: float, x2: float, y1: float, y2: float, style: str) -> Svg:
    return tag("line", x1=_percent(x1), x2=_percent(x2), y1=y1, y2=y2, class_=style)


def _percent(value: float) -> str:
    return f"{round(value, 2):g}%"


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
