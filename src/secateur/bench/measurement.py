"""One timing of one artifact, as it stands in ``measurements.jsonl``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from secateur.errors import CorruptFile

Interval = tuple[float, float]


@dataclass(frozen=True)
class Entry:
    """An artifact to be timed.

    Args:
        artifact: its name, such as ``dense-fp32``; unique within one call of ``measure``.
        path: the file.
        runtime: ``onnxruntime``, ``openvino`` or ``torch``.
        dtype: ``fp32`` or ``int8``; recorded, not checked.
        predicted_ms: what a latency model said, if one did.
    """

    artifact: str
    path: Path
    runtime: str = "onnxruntime"
    dtype: str = "fp32"
    predicted_ms: float | None = None


@dataclass(frozen=True)
class Measurement:
    """Latency of one artifact, in milliseconds, and its paired ratio to a reference measured in turn.

    ``interval_ms`` is the 95 % bootstrap interval of the median; ``ratio`` the median over turns of this artifact's
    mean time in its window over the reference's, and ``ratio_interval`` its 95 % bootstrap interval; ``samples`` the
    number of runs that count; ``loaded`` whether other work kept the machine busy. ``discarded`` counts windows left
    out because they were disturbed; it is not recorded.
    """

    phase: str
    artifact: str
    path: str
    runtime: str
    dtype: str
    device: str
    threads: int
    batch: int
    median_ms: float
    p95_ms: float
    interval_ms: Interval
    reference: str | None
    ratio: float | None
    ratio_interval: Interval | None
    samples: int
    loaded: bool
    predicted_ms: float | None = None
    discarded: int = 0

    def to_json(self) -> dict[str, Any]:
        """The record as JSON data, one line of ``measurements.jsonl``."""
        data = asdict(self)
        del data["discarded"]
        data["interval_ms"] = list(self.interval_ms)
        data["ratio_interval"] = None if self.ratio_interval is None else list(self.ratio_interval)
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Measurement:
        """The inverse of :meth:`to_json`.

        Raises:
            CorruptFile: keys are missing or unknown.
        """
        known = {field.name for field in fields(cls)}
        missing = sorted(known - {"discarded", "predicted_ms"} - set(data))
        unknown = sorted(set(data) - known)
        if missing or unknown:
            raise CorruptFile(f"a measurement with missing keys {missing} and unknown keys {unknown}")
        values = dict(data)
        values["interval_ms"] = _interval(data["interval_ms"])
        values["ratio_interval"] = (
            None if data["ratio_interval"] is None else _interval(data["ratio_interval"])
        )
        return cls(**values)


def _interval(value: Any) -> Interval:
    low, high = value
    return float(low), float(high)
