"""What a group costs in quality: loss and metric against the fraction of its units that is gone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from secateur.errors import CorruptFile


@dataclass(frozen=True)
class Curve:
    """One group, everything else whole.

    Args:
        group: its name.
        units: how many it has.
        removed: units that are gone at each point, rising; the first is 0.
        loss, metric: on calibration data, with these units gone.
    """

    group: str
    units: int
    removed: tuple[int, ...]
    loss: tuple[float, ...]
    metric: tuple[float, ...]

    def rise(self, removed: np.ndarray) -> np.ndarray:
        """By how much the loss is above the dense one, for numbers of removed units; it never falls, and is read off
        the last stretch beyond the last point."""
        known = np.maximum.accumulate(np.array(self.loss) - self.loss[0])
        points = np.array(self.removed, dtype=float)
        found = np.interp(removed, points, known)
        if len(points) > 1:
            slope = (known[-1] - known[-2]) / (points[-1] - points[-2])
            found = found + np.maximum(removed - points[-1], 0.0) * slope
        return np.asarray(found)


@dataclass(frozen=True)
class Sensitivity:
    """The curves of a model's groups.

    Args:
        curves: in the order of the groups.
        blocks: loss and metric without each removable block, by name.
        criterion: what chose the units.
        loss, metric: of the dense model on the same data.
        samples: how many there were.
    """

    curves: tuple[Curve, ...]
    blocks: Mapping[str, tuple[float, float]]
    criterion: str
    loss: float
    metric: float
    samples: int

    def of(self, group: str) -> Curve | None:
        """The curve of a group, or None."""
        return next((c for c in self.curves if c.group == group), None)

    def to_json(self) -> dict[str, Any]:
        """The record as it stands in ``analysis.json``."""
        return {
            "criterion": self.criterion,
            "loss": self.loss,
            "metric": self.metric,
            "samples": self.samples,
            "curves": [
                {
                    "group": c.group, "units": c.units, "removed": list(c.removed), "loss": list(c.loss),
                    "metric": list(c.metric),
                }
                for c in self.curves
            ],
            "blocks": [{"name": n, "loss": loss, "metric": metric} for n, (loss, metric) in self.blocks.items()],
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Sensitivity:
        """The inverse of :meth:`to_json`.

        Raises:
            CorruptFile: the data is no such record.
        """
        try:
            curves = tuple(
                Curve(c["group"], int(c["units"]), tuple(c["removed"]), tuple(c["loss"]), tuple(c["metric"]))
                for c in data["curves"]
            )
            blocks = {b["name"]: (float(b["loss"]), float(b["metric"])) for b in data["blocks"]}
            dense = float(data["loss"]), float(data["metric"]), int(data["samples"])
            return cls(curves, blocks, str(data["criterion"]), *dense)
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptFile(f"this is no record of sensitivity: {error}") from error
