"""A budget, as the user writes it: shares of the dense model (``"0.5x"``) or absolute amounts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields

from secateur.errors import RecipeError

UNITS = {
    "latency": {"ms": 1.0, "s": 1e3, "us": 1e-3},
    "p95": {"ms": 1.0, "s": 1e3, "us": 1e-3},
    "size": {"B": 1.0, "KB": 1e3, "MB": 1e6, "GB": 1e9},
    "memory": {"B": 1.0, "KB": 1e3, "MB": 1e6, "GB": 1e9},
    "params": {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9},
    "macs": {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9},
    "sparsity": {"": 1.0},
    "drop": {"": 1.0},
    "class_drop": {"": 1.0},
}
RELATIVE = ("latency", "p95", "size", "memory", "params", "macs")
QUALITY = ("drop", "class_drop")


@dataclass(frozen=True)
class Amount:
    """``value`` in the kind's base unit (ms, bytes, counts, points), or a share of dense if ``relative``."""

    kind: str
    asked: str
    value: float
    relative: bool

    def limit(self, dense: float) -> float:
        """The amount in absolute terms."""
        return self.value * dense if self.relative else self.value


@dataclass(frozen=True)
class Budget:
    """What the result may cost; several at once must all hold.

    Args:
        latency: ``"0.5x"`` or ``"12ms"``; the median.
        p95: the same for the 95th percentile.
        size: ``"0.3x"`` or ``"4MB"`` (1 MB is 10^6 bytes), of the artifact.
        memory: ``"64MB"``, peak of the runtime's process above its empty self.
        params: ``"0.4x"`` or a number.
        macs: the same, multiply-adds of one sample.
        sparsity: share of zeros, unstructured.
        drop: points of the metric that may be lost (1 point is 0.01).
        class_drop: the same for the worst class.

    Raises:
        RecipeError: an amount cannot be read, or is out of range.
    """

    latency: str | float | None = None
    p95: str | float | None = None
    size: str | float | None = None
    memory: str | float | None = None
    params: str | float | None = None
    macs: str | float | None = None
    sparsity: str | float | None = None
    drop: str | float | None = None
    class_drop: str | float | None = None

    def __post_init__(self) -> None:
        for _ in self.amounts():
            pass

    def amounts(self) -> Iterator[Amount]:
        """The amounts that were given."""
        for field in fields(self):
            given = getattr(self, field.name)
            if given is not None:
                yield parse_amount(field.name, given)

    def get(self, kind: str) -> Amount | None:
        """The amount of one kind, if given."""
        given = getattr(self, kind)
        return None if given is None else parse_amount(kind, given)


def parse_amount(kind: str, given: str | float) -> Amount:
    """Reads one amount.

    Raises:
        RecipeError: saying what was given and what is understood.
    """
    text = str(given).strip()
    found = re.fullmatch(r"([0-9.eE+-]+)\s*([A-Za-z]*)", text)
    units = UNITS[kind]
    understood = ", ".join([f"{kind}=0.5x"] * (kind in RELATIVE) + [f"{kind}=1{u}" for u in units])
    if not found:
        raise RecipeError(f"cannot read the budget {kind}={text}; write {understood}")
    try:
        value = float(found[1])
    except ValueError as error:
        raise RecipeError(f"cannot read the budget {kind}={text}; write {understood}") from error
    unit = found[2]
    relative = unit == "x" and kind in RELATIVE
    known = {u.lower(): f for u, f in units.items()}
    if not relative and (unit.lower() not in known or (unit == "" and "" not in units)):
        raise RecipeError(f"the budget {kind}={text} has an unknown unit '{unit}'; write {understood}")
    if not math.isfinite(value) or value < 0 or (value == 0 and kind not in QUALITY):
        raise RecipeError(f"the budget {kind}={text} must be positive; write {understood}")
    if relative and value > 1:
        raise RecipeError(f"the budget {kind}={text} asks for more than the dense model has; give at most 1x")
    if kind == "sparsity" and value >= 1:
        raise RecipeError(f"the budget sparsity={text} must be below 1")
    return Amount(kind, text, value if relative else value * known[unit.lower()], relative)
