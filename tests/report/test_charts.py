"""The charts place what they are given, stay inside, and escape text."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from secateur.report.charts import Guide, Scale, Series, bars, bullet, dot_interval, line_chart, tag, ticks

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)


def test_text_and_attributes_are_escaped() -> None:
    assert tag("text", "<b>&", class_='"x"') == '<text class="&quot;x&quot;">&lt;b&gt;&amp;</text>'


@given(NUMBERS, st.floats(1e-6, 1e6), st.integers(2, 8))
def test_ticks_are_inside_and_evenly_spaced(low: float, span: float, about: int) -> None:
    high = low + span
    found = ticks(low, high, about)
    slack = 1e-6 * max(abs(low), abs(high), 1.0)
    assert len(found) <= about + 2
    assert all(low - slack <= t <= high + slack for t in found)
    steps = {round((b - a) / span, 6) for a, b in pairwise(found)}
    assert len(steps) <= 2


def test_ticks_are_round() -> None:
    assert ticks(0.0, 2.4, 4) == [0.0, 1.0, 2.0]
    assert ticks(0.72, 1.0, 4) == [0.8, 0.9, 1.0]


@given(NUMBERS, NUMBERS, NUMBERS)
def test_tracks_stay_inside(value: float, low: float, high: float) -> None:
    scale = Scale(0.0, 100.0)
    for drawn in (
        dot_interval(value, (min(low, high), max(low, high)), scale, tail=high, zero=0.0),
        bullet(value, high, scale, (min(low, high), max(low, high)), True),
    ):
        ET.fromstring(drawn)
        assert all(0.0 <= float(p) <= 100.0 for p in re.findall(r'(?:x1|x2|cx|x)="([-\d.e]+)%"', drawn))


def test_bars_are_drawn_to_scale() -> None:
    widths = [r.get("width") for r in ET.fromstring(bars(64, 24, 128)).iter("rect")]
    assert widths == ["50%", "18.75%"]


def test_a_line_chart_has_a_point_for_each_value_and_a_label_for_each_guide() -> None:
    series = [
        Series("a", ((0.0, 1.0), (0.5, 0.4), (1.0, 0.9)), "kept"),
        Series("b", ((0.5, 0.2),), "raw", "hollow"),
    ]
    drawn = line_chart(series, "A & B", str, str, [Guide(0.5, "limit <")])
    root = ET.fromstring(drawn)
    assert len(list(root.iter("circle"))) == 4
    assert "limit <" in [t.text for t in root.iter("text")]
    assert root.get("aria-label") == "A & B"
    heights = [float(c.get("cy") or 0) for c in root.iter("circle")]
    assert heights[0] < heights[2] < heights[1] < heights[3]


def test_a_flat_line_is_drawn() -> None:
    ET.fromstring(line_chart([Series("a", ((0.0, 1.0), (0.0, 1.0)), "kept")], "flat", str, str))
