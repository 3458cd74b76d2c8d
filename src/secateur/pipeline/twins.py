"""INT8 beside its fp32 twin: the same network in the same runtime, measured in the same turns.

Where the dtype is left open, INT8 is a candidate only where it is the faster of the two. Where it was asked for by name
it stays, and its record says that it is slower.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from secateur.deploy import Artifact, Target


def eligible(
    target: Target, artifacts: Sequence[Artifact], timings: Sequence[Mapping[str, Any]]
) -> list[Artifact]:
    """The artifacts that may be the result: in a dtype that is asked for, and no slower than their twin in fp32,
    unless nothing else was asked for."""
    asked = [a for a in artifacts if a.dtype in target.dtypes]
    if len(target.dtypes) == 1:
        return asked
    return [a for a in asked if (fp32_ratio(a, artifacts, timings) or 1.0) <= 1.0]


def fp32_ratio(
    artifact: Artifact, artifacts: Sequence[Artifact], timings: Sequence[Mapping[str, Any]]
) -> float | None:
    """Latency of an artifact that is not fp32 over that of its twin; None where there is no twin or no timing."""
    stage, _, _ = artifact.name.rpartition("-")
    twin = next(
        (
            a
            for a in artifacts
            if (a.name.rpartition("-")[0], a.runtime, a.dtype) == (stage, artifact.runtime, "fp32")
        ),
        None,
    )
    if artifact.dtype == "fp32" or twin is None:
        return None
    ratios = {t["artifact"]: 1.0 if t["ratio"] is None else float(t["ratio"]) for t in timings}
    if artifact.name not in ratios or twin.name not in ratios:
        return None
    return ratios[artifact.name] / ratios[twin.name]
