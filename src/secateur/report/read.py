"""Reads the records of a run folder into one frozen :class:`~secateur.report.records.Run`.

A missing file leaves its part empty; a last line that a crash cut short is left out and said so. A file that
is there and is no JSON at all is an error, since a page made from half of it would mislead.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from secateur.errors import CorruptFile, RunFolderError
from secateur.report.records import (
    Analysis,
    Artifact,
    Baseline,
    Bounds,
    Budget,
    ClassQuality,
    Gain,
    Layer,
    Lock,
    Rival,
    Round,
    Run,
    Timing,
    Verdict,
)

RECORDS = (
    "recipe.yaml",
    "environment.json",
    "analysis.json",
    "layers.json",
    "history.jsonl",
    "measurements.jsonl",
    "verdict.json",
)
_ASKED = re.compile(r"^\s*([-+]?[0-9.]+(?:e[-+]?\d+)?)\s*([a-zA-Zµ%]*)\s*$", re.IGNORECASE)
_FACTORS = {"ms": 1.0, "s": 1e3, "us": 1e-3, "µs": 1e-3, "b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9}
_UNITS = {
    "latency": "ms",
    "p95": "ms",
    "size": "bytes",
    "memory": "bytes",
    "params": "params",
    "macs": "macs",
}


def read_run(folder: Path) -> Run:
    """Reads a run folder.

    Raises:
        RunFolderError: it is no folder, or holds none of a run's records.
        CorruptFile: a record is no valid JSON or YAML.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RunFolderError(f"{folder} is no folder; give the folder that a run wrote")
    if not any((folder / name).is_file() for name in RECORDS):
        raise RunFolderError(f"{folder} holds no records of a run; expected some of {', '.join(RECORDS)}")
    notices: list[str] = []
    recipe, recipe_text = _recipe(folder / "recipe.yaml")
    verdict = _json(folder / "verdict.json", dict)
    analysis = _json(folder / "analysis.json", dict)
    return Run(
        folder=folder,
        name=folder.resolve().name,
        verdict=_verdict(verdict) if verdict else None,
        rounds=_rounds(_lines(folder / "history.jsonl", notices)),
        timings=tuple(_timing(r) for r in _lines(folder / "measurements.jsonl", notices)),
        layers=tuple(_layer(r) for r in _dicts(_json(folder / "layers.json", list))),
        analysis=_analysis(analysis) if analysis else None,
        environment=_json(folder / "environment.json", dict) or {},
        recipe=recipe,
        recipe_text=recipe_text,
        has_plan=(folder / "plan.json").is_file(),
        has_model=(folder / "model.safetensors").is_file(),
        notices=tuple(notices),
    )


def number(value: Any) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return value


def _verdict(record: Mapping[str, Any]) -> Verdict:
    metric, reference = _dict(record.get("metric")), _dict(record.get("reference"))
    dense_final = [_class(c) for c in _dicts(record.get("classes"))]
    dense_final.sort(key=lambda c: (c.delta is None, c.delta or 0.0))
    return Verdict(
        verdict=_str(record.get("verdict")) or "unknown",
        headline=_str(record.get("headline")),
        reasons=tuple(_str(r) for r in record.get("reasons") or ()),
        budgets=tuple(_budget(b) for b in _dicts(record.get("budgets"))),
        metric_name=_str(metric.get("name")) or "metric",
        dense=number(metric.get("dense")),
        pruned=number(metric.get("pruned")),
        quantized=number(metric.get("quantized")),
        classes=tuple(dense_final),
        artifacts=tuple(_artifact(a) for a in _dicts(record.get("artifacts"))),
        baselines=tuple(_baseline(b) for b in _dicts(record.get("baselines"))),
        gains=tuple(
            Gain(
                _str(g.get("against")),
                number(g.get("latency_ratio")),
                _bounds(g.get("interval")),
                number(g.get("size_ratio")),
            )
            for g in _dicts(record.get("gains"))
        ),
        target=_str(record.get("target")),
        reference=_str(reference.get("artifact")),
        reference_ms=number(reference.get("latency_ms")),
        reference_bytes=number(reference.get("size_bytes")),
        rivals=tuple(_rival(r) for r in _dicts(record.get("runtimes"))),
    )


def _artifact(record: Mapping[str, Any]) -> Artifact:
    return Artifact(
        name=_str(record.get("name")),
        path=_str(record.get("path")),
        size_bytes=number(record.get("bytes")),
        runtime=_str(record.get("runtime")),
        max_relative_error=number(record.get("max_relative_error")),
        metric=number(record.get("metric")),
        fp32_ratio=number(record.get("fp32_ratio")),
    )


def _rival(record: Mapping[str, Any]) -> Rival:
    return Rival(
        runtime=_str(record.get("runtime")),
        dtype=_str(record.get("dtype")),
        latency_ms=number(record.get("latency_ms")),
        ratio=number(record.get("ratio")),
        bounds=_bounds(record.get("interval")),
        size_bytes=number(record.get("size_bytes")),
        chosen=record.get("chosen") is True,
        obstacle=_str(record.get("obstacle")),
    )


def _budget(record: Mapping[str, Any]) -> Budget:
    """A budget in the unit of its kind: points for a drop, else what :data:`_UNITS` says."""
    kind, asked = _str(record.get("kind")), _str(record.get("asked"))
    dense, achieved = number(record.get("dense")), number(record.get("achieved"))
    given = _str(record.get("unit")).lower()
    unit = "points" if "drop" in kind else _UNITS.get(kind, given)
    if "drop" in kind:
        scale = 1.0 if given.startswith("point") else 100.0
    else:
        scale = _FACTORS.get(given, 1.0)
    achieved = None if achieved is None else achieved * scale
    dense = None if dense is None or "drop" in kind else dense * scale
    bounds = _bounds(record.get("interval"))
    if bounds is not None:
        # An interval stands in the budget's own unit, or, where it is paired, as a ratio to the dense value.
        readings = [(bounds[0] * s, bounds[1] * s) for s in ((scale, dense) if dense else (scale,))]
        bounds = min(readings, key=lambda r: abs(sum(r) / 2 - (achieved or 0.0)))
    met = record.get("met")
    return Budget(
        kind,
        asked,
        unit,
        dense,
        achieved,
        bounds,
        _limit(asked, dense),
        met if isinstance(met, bool) else None,
    )


def _limit(asked: str, dense: float | None) -> float | None:
    found = _ASKED.match(asked)
    if not found:
        return None
    try:
        value = float(found[1])
    except ValueError:
        return None
    suffix = found[2].lower()
    if suffix == "x":
        return value * dense if dense is not None else None
    return value * _FACTORS.get(suffix, 1.0)


def _class(record: Mapping[str, Any]) -> ClassQuality:
    dense, final, delta = (number(record.get(k)) for k in ("dense", "pruned", "delta"))
    if delta is None and dense is not None and final is not None:
        delta = final - dense
    bounds = _bounds(record.get("interval"))
    return ClassQuality(
        name=_str(record.get("name")),
        dense=dense,
        final=final,
        delta=None if delta is None else 100 * delta,
        bounds=None if bounds is None else (100 * bounds[0], 100 * bounds[1]),
    )


def _baseline(record: Mapping[str, Any]) -> Baseline:
    return Baseline(
        name=_str(record.get("name")),
        what=_str(record.get("what")),
        latency_ms=number(record.get("latency_ms")),
        latency_ratio=number(record.get("latency_ratio")),
        bounds=_bounds(record.get("ratio_interval")),
        size_bytes=number(record.get("size_bytes")),
        metric=number(record.get("metric")),
        training=record.get("training") is True,
    )


def _rounds(records: Iterable[Mapping[str, Any]]) -> tuple[Round, ...]:
    """Each round that leads to the result once, in order: a resumed run may have written one twice, and the last one
    counts."""
    last = {r.number: r for r in map(_round, (r for r in records if r.get("given_up") is not True))}
    return tuple(last[n] for n in sorted(last))


def _round(record: Mapping[str, Any]) -> Round:
    return Round(
        number=int(number(record.get("round")) or 0),
        fraction_cut=number(record.get("fraction_cut")),
        params=number(record.get("params")),
        macs=number(record.get("macs")),
        predicted_ms=number(record.get("predicted_latency_ms")),
        latency_ms=number(record.get("latency_ms")),
        latency_ratio=number(record.get("latency_ratio")),
        before=number(record.get("metric_before")),
        after=number(record.get("metric_after")),
        seconds=number(record.get("seconds")),
        reconstructed=number(record.get("metric_reconstructed")),
    )


def _timing(record: Mapping[str, Any]) -> Timing:
    return Timing(
        phase=_str(record.get("phase")),
        artifact=_str(record.get("artifact")),
        path=_str(record.get("path")),
        runtime=_str(record.get("runtime")),
        dtype=_str(record.get("dtype")),
        device=_str(record.get("device")),
        threads=number(record.get("threads")),
        batch=number(record.get("batch")),
        median_ms=number(record.get("median_ms")),
        p95_ms=number(record.get("p95_ms")),
        bounds=_bounds(record.get("interval_ms")),
        reference=_str(record.get("reference")),
        ratio=number(record.get("ratio")),
        ratio_bounds=_bounds(record.get("ratio_interval")),
        samples=number(record.get("samples")),
        loaded=record.get("loaded") is True,
        predicted_ms=number(record.get("predicted_ms")),
    )


def _layer(record: Mapping[str, Any]) -> Layer:
    def pair(key: str) -> Bounds | None:
        return _bounds([record.get(f"{key}_before"), record.get(f"{key}_after")])

    return Layer(
        name=_str(record.get("name")),
        operator=_str(record.get("operator")),
        params=pair("params"),
        macs=pair("macs"),
        units=pair("units"),
        sparsity=number(record.get("sparsity")),
        latency_share=number(record.get("latency_share")),
    )


def _analysis(record: Mapping[str, Any]) -> Analysis:
    groups = _dicts(record.get("groups"))
    gathered: dict[tuple[str, str, str], dict[str, float]] = {}
    held: dict[tuple[str, str, str], dict[str, float]] = {}
    for lock in _dicts(record.get("locked")):
        key = (_str(lock.get("reason")), _str(lock.get("operator")), _str(lock.get("remedy")))
        name = _str(lock.get("param"))
        axis, size = number(lock.get("axis")), number(lock.get("size"))
        label = name if axis is None else f"{name}, axis {axis:g}" + ("" if size is None else f" of {size:g}")
        gathered.setdefault(key, {})[label] = 0.0
        # A parameter locked along two axes is held once.
        held.setdefault(key, {})[name] = number(lock.get("params")) or 0.0
    locks = [
        Lock(reason, operator, remedy, tuple(axes), sum(held[(reason, operator, remedy)].values()))
        for (reason, operator, remedy), axes in gathered.items()
    ]
    locks.sort(key=lambda lock: -lock.params)
    return Analysis(
        params=number(record.get("params")),
        macs=number(record.get("macs")),
        prunable_share=number(record.get("prunable_share")),
        groups=len(groups),
        units=sum(number(g.get("units")) or 0.0 for g in groups),
        locks=tuple(locks),
        record=record,
    )


def _recipe(path: Path) -> tuple[dict[str, Any], str]:
    import yaml

    if not path.is_file():
        return {}, ""
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        loaded = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CorruptFile(f"{path} is no valid YAML; restore it, or run again into a new folder") from error
    return _dict(loaded), text


def _json(path: Path, kind: type) -> Any:
    if not path.is_file():
        return None
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CorruptFile(f"{path} is no valid JSON; restore it, or run the same command again") from error
    if not isinstance(loaded, kind):
        raise CorruptFile(f"{path} should hold a JSON {kind.__name__}, and holds a {type(loaded).__name__}")
    return loaded


def _lines(path: Path, notices: list[str]) -> list[Mapping[str, Any]]:
    if not path.is_file():
        return []
    lines = [line for line in path.read_bytes().split(b"\n") if line.strip()]
    records: list[Mapping[str, Any]] = []
    for index, line in enumerate(lines):
        try:
            record = json.loads(line)
        except ValueError as error:
            if index == len(lines) - 1:
                notices.append(
                    f"The last line of {path.name} was cut short by an interruption and is left out."
                )
                break
            raise CorruptFile(f"{path}, line {index + 1}, is no valid JSON; restore the file") from error
        if isinstance(record, dict):
            records.append(record)
    return records


def _dicts(value: Any) -> list[Mapping[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, Iterable) else []


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _str(value: Any) -> str:
    return "" if value is None else str(value)


def _bounds(value: Any) -> Bounds | None:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return None
    low, high = number(value[0]), number(value[1])
    return None if low is None or high is None else (low, high)
