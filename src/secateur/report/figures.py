"""Numbers as people read them: three significant digits, a unit, and a real minus sign.

Every number of the page goes through :func:`quantity`, so that the same measure looks the same everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

_NBSP = "\u00a0"
# From which value on a unit is used, its name, its size. A megabyte or a millisecond is used well below 1, so
# that dense and pruned mostly stand in the same unit.
_STEPS: dict[str, tuple[tuple[float, str, float], ...]] = {
    "bytes": ((1e8, "GB", 1e9), (1e5, "MB", 1e6), (1e2, "kB", 1e3), (0, "B", 1)),
    "params": ((1e9, "G", 1e9), (1e6, "M", 1e6), (1e3, "k", 1e3), (0, "", 1)),
    "macs": ((1e9, "G", 1e9), (1e6, "M", 1e6), (1e3, "k", 1e3), (0, "", 1)),
    "ms": ((1e4, "s", 1e3), (1e-2, "ms", 1), (0, "µs", 1e-3)),
    "s": ((7200, "h", 3600), (120, "min", 60), (0, "s", 1)),
}
_ALIASES = {
    "b": "bytes",
    "byte": "bytes",
    "parameters": "params",
    "points": "points",
    "point": "points",
    "ratio": "x",
}
MISSING = "–"


def points(value: float) -> str:
    """An amount of points without a sign: ``0.45 points``, ``1 point``."""
    text = _fixed(abs(value), 2)
    text = text.rstrip("0").rstrip(".")
    return f"{text}{_NBSP}point" + ("" if text == "1" else "s")


def quantity(value: float | None, unit: str = "") -> str:
    """A number with its unit; ``–`` where there is none.

    Args:
        value: the number, in ``unit``; None, NaN and infinities count as missing.
        unit: ``ms``, ``s``, ``bytes``, ``params``, ``macs``, ``x`` (a ratio), ``share`` (a fraction shown in
            percent), ``points`` (a signed difference of a metric, already in points), ``count``, or any other
            text, which is then appended as it is.
    """
    if value is None or not math.isfinite(value):
        return MISSING
    unit = _ALIASES.get(unit.lower(), unit)
    if unit in _STEPS:
        return _stepped(value, _STEPS[unit])
    if unit == "x":
        return f"{digits(value)}×"
    if unit == "share":
        return f"{_fixed(100 * value, 1 if abs(value) < 1.0 else 0)}{_NBSP}%"
    if unit == "points":
        text = _fixed(value, 2)
        return ("+" if value > 0 and text.strip("0.") else "") + text
    if unit == "count":
        return f"{round(value):,}".replace(",", "\u202f")
    return f"{digits(value)}{_NBSP}{unit}" if unit else digits(value, 4)


def interval(bounds: Sequence[float | None] | None, unit: str = "") -> str:
    """``low to high`` with the unit once where both ends share it; empty where there is no interval."""
    if bounds is None or len(bounds) != 2 or bounds[0] is None or bounds[1] is None:
        return ""
    low, high = quantity(bounds[0], unit), quantity(bounds[1], unit)
    head, _, tail = low.rpartition(_NBSP)
    if head and high.endswith(_NBSP + tail):
        low = head
    elif unit == "x" and low.endswith("×"):
        low = low[:-1]
    return f"{low} to {high}"


def times(ratio: float | None, smaller: str, larger: str) -> str:
    """A ratio in words: 0.4 with (faster, slower) gives ``2.5× faster``."""
    if ratio is None or not ratio > 0 or not math.isfinite(ratio):
        return MISSING
    if 0.995 < ratio < 1.005:
        return f"as {_SAME.get(smaller, smaller)}"
    return f"{digits(1 / ratio)}× {smaller}" if ratio < 1 else f"{digits(ratio)}× {larger}"


_SAME = {"faster": "fast", "smaller": "large"}


def digits(value: float, significant: int = 3) -> str:
    """A plain decimal of at least ``significant`` digits; scientific only below 1e-4."""
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if size < -4:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    return _fixed(value, max(0, significant - 1 - size))


def _fixed(value: float, places: int) -> str:
    text = f"{value:.{places}f}"
    if text.startswith("-"):
        text = text[1:] if not text.strip("-0.") else "−" + text[1:]
    return text


def _stepped(value: float, steps: Sequence[tuple[float, str, float]]) -> str:
    name, size = next((n, size) for start, n, size in steps if abs(value) >= start * 0.9995)
    if value == 0 and size < 1:
        name, size = steps[-2][1:]
    scaled = value / size
    text = _fixed(scaled, 0) if name in ("", "B") else digits(scaled)
    return f"{text}{_NBSP}{name}" if name else text
