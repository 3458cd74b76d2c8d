"""What a run wrote, as frozen records that the page is made of.

Every field may be missing: a run that was stopped, or that an older version wrote, is shown as far as it got.
Metrics are fractions (accuracy 0.97), times are milliseconds, sizes are bytes, ratios are to the reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Bounds = tuple[float, float]


@dataclass(frozen=True)
class Budget:
    """One promise: what was asked, what the dense model has, what was reached."""

    kind: str
    asked: str
    unit: str
    dense: float | None
    achieved: float | None
    bounds: Bounds | None
    limit: float | None
    met: bool | None


@dataclass(frozen=True)
class Gain:
    """The final artifact against one dense variant; ratios below 1 are gains."""

    against: str
    latency_ratio: float | None
    bounds: Bounds | None
    size_ratio: float | None


@dataclass(frozen=True)
class ClassQuality:
    """One class: its score dense and final, and the difference in points."""

    name: str
    dense: float | None
    final: float | None
    delta: float | None
    bounds: Bounds | None


@dataclass(frozen=True)
class Baseline:
    """A simpler thing to do instead, measured the same way."""

    name: str
    what: str
    latency_ms: float | None
    latency_ratio: float | None
    bounds: Bounds | None
    size_bytes: float | None
    metric: float | None
    training: bool


@dataclass(frozen=True)
class Artifact:
    """A file of the run and how far its outputs are from those of the model it came from; beside it, where it is
    quantised, its latency over that of the same network in fp32."""

    name: str
    path: str
    size_bytes: float | None
    runtime: str
    max_relative_error: float | None
    metric: float | None
    fp32_ratio: float | None = None


@dataclass(frozen=True)
class Rival:
    """The dense model in one of the runtimes that a run chose from."""

    runtime: str
    dtype: str
    latency_ms: float | None
    ratio: float | None
    bounds: Bounds | None
    size_bytes: float | None
    chosen: bool
    obstacle: str


@dataclass(frozen=True)
class Verdict:
    """``verdict.json``."""

    verdict: str
    headline: str
    reasons: tuple[str, ...]
    budgets: tuple[Budget, ...]
    metric_name: str
    dense: float | None
    pruned: float | None
    quantized: float | None
    classes: tuple[ClassQuality, ...]
    artifacts: tuple[Artifact, ...]
    baselines: tuple[Baseline, ...]
    gains: tuple[Gain, ...]
    target: str
    reference: str
    reference_ms: float | None
    reference_bytes: float | None
    rivals: tuple[Rival, ...] = ()


@dataclass(frozen=True)
class Round:
    """One line of ``history.jsonl``; round 0 is the dense model."""

    number: int
    fraction_cut: float | None
    params: float | None
    macs: float | None
    predicted_ms: float | None
    latency_ms: float | None
    latency_ratio: float | None
    before: float | None
    after: float | None
    seconds: float | None
    reconstructed: float | None = None


@dataclass(frozen=True)
class Timing:
    """One line of ``measurements.jsonl``."""

    phase: str
    artifact: str
    path: str
    runtime: str
    dtype: str
    device: str
    threads: float | None
    batch: float | None
    median_ms: float | None
    p95_ms: float | None
    bounds: Bounds | None
    reference: str
    ratio: float | None
    ratio_bounds: Bounds | None
    samples: float | None
    loaded: bool
    predicted_ms: float | None


@dataclass(frozen=True)
class Layer:
    """One layer before and after."""

    name: str
    operator: str
    params: Bounds | None
    macs: Bounds | None
    units: Bounds | None
    sparsity: float | None
    latency_share: float | None


@dataclass(frozen=True)
class Lock:
    """Axes that stay for one reason, with the parameters that they hold."""

    reason: str
    operator: str
    remedy: str
    axes: tuple[str, ...]
    params: float


@dataclass(frozen=True)
class Analysis:
    """``analysis.json``, with the locked axes gathered by reason, and as it is."""

    params: float | None
    macs: float | None
    prunable_share: float | None
    groups: int
    units: float
    locks: tuple[Lock, ...]
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """Everything that one run folder says."""

    folder: Path
    name: str
    verdict: Verdict | None = None
    rounds: tuple[Round, ...] = ()
    timings: tuple[Timing, ...] = ()
    layers: tuple[Layer, ...] = ()
    analysis: Analysis | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    recipe_text: str = ""
    has_plan: bool = False
    has_model: bool = False
    notices: tuple[str, ...] = ()
