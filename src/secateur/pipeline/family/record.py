"""A sweep's outcome: a point for every budget, and which of them no other beats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from secateur.errors import Infeasible, UnknownName
from secateur.planning import Plan


@dataclass(frozen=True)
class Measured:
    """The artifact of a plan, without training, measured in turn with the dense reference.

    Args:
        artifact: the file, inside the sweep's folder.
        dtype: of the dtypes of the target, the one that measured fastest.
        median_ms: latency.
        ratio, ratio_interval: over the reference's, measured in turn, with its 95 % interval.
        size_bytes: of the file.
        metric: of the artifact on held-out data; None without data.
        max_relative_error: against the cut network.
        loaded: whether other work kept the machine busy.
    """

    artifact: str
    dtype: str
    median_ms: float
    ratio: float
    ratio_interval: tuple[float, float]
    size_bytes: int
    metric: float | None
    max_relative_error: float
    loaded: bool


@dataclass(frozen=True)
class Point:
    """One budget.

    Args:
        asked: as it was written, such as ``0.5x``.
        share: of the dense model's cost.
        plan: the file of the plan, inside the sweep's folder; None where the budget is infeasible.
        reason: why it is infeasible, and what could be had.
        removed: blocks that go whole.
        params, macs: of the cut network.
        predicted_ms, predicted_ratio: of its latency, and over the dense reference's; None where the target does not
            tell enough for predictions.
        predicted_bytes: of the artifact, by the share of the parameters.
        kept: share of the saliency that stays; None where blocks go whole, which are not scored as units are.
        metric, loss: on held-out data, recovered without training; None without data.
        measured: of chosen points.
        dominated_by: the budget of a point that costs no more and keeps no less, or ``dense``; None on the front.
        same_as: a larger budget that gave the very same plan.
    """

    asked: str
    share: float
    plan: str | None = None
    reason: str | None = None
    removed: tuple[str, ...] = ()
    params: int | None = None
    macs: int | None = None
    predicted_ms: float | None = None
    predicted_ratio: float | None = None
    predicted_bytes: int | None = None
    kept: float | None = None
    metric: float | None = None
    loss: float | None = None
    measured: Measured | None = None
    dominated_by: str | None = None
    same_as: str | None = None

    @property
    def feasible(self) -> bool:
        """Whether there is a plan."""
        return self.plan is not None

    @property
    def on_front(self) -> bool:
        """Whether no other point beats it."""
        return self.feasible and self.dominated_by is None and self.same_as is None


@dataclass(frozen=True)
class Sweep:
    """A family of plans.

    Args:
        folder: with ``sweep.json``, ``sweep.html`` and ``plans``.
        points: the largest budget first.
        record: the content of ``sweep.json``.
    """

    folder: Path
    points: tuple[Point, ...]
    record: Mapping[str, Any]

    @property
    def front(self) -> tuple[Point, ...]:
        """The points that no other beats."""
        return tuple(p for p in self.points if p.on_front)

    def plan(self, asked: str) -> Plan:
        """The plan of a budget; ``sc.cut(model, plan, example_inputs)`` replays it.

        Raises:
            UnknownName: no such budget was asked.
            Infeasible: it cannot be met.
        """
        point = next((p for p in self.points if p.asked == asked), None)
        if point is None:
            raise UnknownName(
                f"no budget {asked!r} in this sweep; there are {', '.join(p.asked for p in self.points)}"
            )
        if point.plan is None:
            raise Infeasible(str(point.reason))
        return Plan.load(self.folder / point.plan)


def plain(point: Point) -> dict[str, Any]:
    """A point as it stands in ``sweep.json``."""
    data = {**asdict(point), "removed": list(point.removed)}
    if point.measured is not None:
        data["measured"]["ratio_interval"] = list(point.measured.ratio_interval)
    return {**data, "feasible": point.feasible, "on_front": point.on_front}
