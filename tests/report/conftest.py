"""A run folder as a real run would leave it: a ResNet-like network, eight rounds, ten classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RECIPE = """\
model: examples.digits:SmallResNet
data: digits
task: classification
budget:
  latency: 0.5x
  drop: 1.0
target: onnxruntime:auto
seed: 0
"""


def history() -> list[dict[str, Any]]:
    """Round 0 is dense; each round cuts 15 % of what is left and recovers nearly everything."""
    rounds, left = [], 1.0
    for k in range(9):
        cut = 1 - left
        rounds.append(
            {
                "round": k,
                "fraction_cut": cut,
                "params": int(1_084_586 * left**1.1),
                "macs": int(41_300_000 * left),
                "predicted_latency_ms": None if k == 0 else 2.31 * (0.12 + 0.88 * left) * (1.03 - 0.008 * k),
                "latency_ms": 2.31 * (0.12 + 0.88 * left),
                "latency_ratio": 0.12 + 0.88 * left,
                "metric_before": 0.9822 if k == 0 else 0.975 - 0.042 * k - 0.07 * (k % 3),
                "metric_after": 0.9822 - 0.0009 * k + 0.0006 * (k % 2),
                "seconds": 0.0 if k == 0 else 14.2 + 0.4 * k,
            }
        )
        left *= 0.85
    return rounds


def timing(artifact: str, median: float, phase: str = "final", **other: Any) -> dict[str, Any]:
    """One line of measurements.jsonl, with an interval of a few percent."""
    record = {
        "phase": phase,
        "artifact": artifact,
        "path": f"artifacts/{artifact}.onnx",
        "runtime": "onnxruntime",
        "dtype": artifact.rpartition("-")[2],
        "device": "local",
        "threads": 2,
        "batch": 1,
        "median_ms": median,
        "p95_ms": median * 1.22,
        "interval_ms": [median * 0.97, median * 1.04],
        "reference": "dense-int8",
        "ratio": median / 1.32,
        "ratio_interval": [median / 1.32 * 0.965, median / 1.32 * 1.04],
        "samples": 200,
        "loaded": False,
        "predicted_ms": None,
    }
    return record | other


def layers() -> list[dict[str, Any]]:
    """Three stages of three blocks, the inner channels cut hardest, stem and head untouched."""
    kept = iter((0.5, 0.625, 0.5, 0.75, 0.375, 0.5, 0.5, 0.25, 0.1875))
    found = [("stem", 32, 32, 3 * 9)]
    for stage, width in enumerate((32, 64, 128), 1):
        for block in range(3):
            inner = int(width * next(kept))
            found.append((f"stage{stage}.{block}.conv1", width, inner, width * 9))
            found.append(
                (f"stage{stage}.{block}.conv2", width, width if stage < 3 else width // 2, inner * 9)
            )
    return [
        {
            "name": name,
            "operator": "conv2d",
            "params_before": before * fan,
            "params_after": after * fan,
            "macs_before": before * fan * 64,
            "macs_after": after * fan * 64,
            "units_before": before,
            "units_after": after,
            "sparsity": 0.0,
            "latency_share": 0.05,
        }
        for name, before, after, fan in found
    ]


def analysis() -> dict[str, Any]:
    """Two reasons for locks; one parameter is locked along two axes."""

    def lock(
        param: str, axis: int, size: int, params: int, operator: str, reason: str, remedy: str
    ) -> dict[str, Any]:
        keys = ("param", "axis", "size", "params", "operator", "reason", "source", "remedy")
        return dict(
            zip(keys, (param, axis, size, params, operator, reason, "model.py:41", remedy), strict=True)
        )

    outputs = "an output of the model: its size is part of what callers rely on"
    inputs = "an input of the model: its channels come with the data"
    roll = "torch.roll moves positions of this axis, so they cannot be removed one by one"
    return {
        "params": 1_084_586,
        "macs": 41_300_000,
        "prunable_share": 0.9917,
        "groups": [
            {"name": f"stage{s}.{b}", "units": 32 * s, "params": 9000, "axes": []}
            for s in (1, 2, 3)
            for b in range(3)
        ],
        "locked": [
            lock("head.weight", 0, 10, 1280, "linear", outputs, "name the output in unlock="),
            lock("head.bias", 0, 10, 10, "linear", outputs, "name the output in unlock="),
            lock("stem.weight", 1, 3, 864, "conv2d", inputs, ""),
            lock("shift.weight", 0, 64, 4096, "roll", roll, "cut the axis that is not rolled"),
            lock("shift.weight", 1, 64, 4096, "roll", roll, "cut the axis that is not rolled"),
        ],
        "suitability": None,
        "sensitivity": None,
    }


def verdict(**other: Any) -> dict[str, Any]:
    """Met: 0.49 of dense INT8, 0.45 points lost."""
    names = "zero one two three four five six seven eight nine".split()
    deltas = (0.0, -0.0067, 0.0, 0.0056, -0.0028, -0.0112, 0.0, 0.0, -0.0345, -0.0056)
    classes = [
        {
            "name": name,
            "dense": 0.985 - 0.003 * k,
            "pruned": 0.985 - 0.003 * k + delta,
            "delta": delta,
            "interval": [delta - 0.011 - 0.001 * k, delta + 0.010 + 0.0005 * k],
        }
        for k, (name, delta) in enumerate(zip(names, deltas, strict=True))
    ]
    record = {
        "verdict": "met",
        "headline": "The pruned INT8 model is 2.1 times as fast as the dense INT8 one and loses 0.45 points.",
        "target": "onnxruntime:auto",
        "reasons": [
            "latency: 0.478× of dense INT8, and at most 0.497× with the interval, within 0.5×",
            "drop: 0.45 points on 900 held-out samples, within 1.0",
        ],
        "budgets": [
            {
                "kind": "latency",
                "asked": "0.5x",
                "unit": "ms",
                "dense": 1.32,
                "achieved": 0.631,
                "interval": [0.461, 0.497],
                "met": True,
            },
            {
                "kind": "drop",
                "asked": "1.0",
                "unit": "points",
                "dense": 0.9822,
                "achieved": 0.45,
                "interval": [-0.2, 1.1],
                "met": True,
            },
        ],
        "metric": {"name": "accuracy", "dense": 0.9822, "pruned": 0.9789, "quantized": 0.9777},
        "classes": classes,
        "reference": {"artifact": "dense-int8", "latency_ms": 1.32, "size_bytes": 1_140_000},
        "gains": [
            {
                "against": "dense-fp32",
                "latency_ratio": 0.273,
                "interval": [0.262, 0.285],
                "size_ratio": 0.084,
            },
            {
                "against": "dense-int8",
                "latency_ratio": 0.478,
                "interval": [0.461, 0.497],
                "size_ratio": 0.317,
            },
        ],
        "artifacts": [
            {
                "path": f"artifacts/{n}.onnx",
                "bytes": size,
                "runtime": "onnxruntime",
                "max_relative_error": error,
            }
            for n, size, error in (
                ("dense-fp32", 4_310_000, 3.1e-7),
                ("dense-int8", 1_140_000, 0.021),
                ("pruned-fp32", 1_270_000, 2.4e-7),
                ("pruned-int8", 361_000, 0.027),
            )
        ],
        "baselines": [
            {
                "name": "INT8 without pruning",
                "what": "the dense model, quantised with the same calibration",
                "latency_ms": 1.32,
                "latency_ratio": 1.0,
                "ratio_interval": [0.98, 1.02],
                "size_bytes": 1_140_000,
                "metric": 0.9816,
                "training": False,
            },
            {
                "name": "Random pruning",
                "what": "the same cost, units chosen at random, batch norm recalibrated",
                "latency_ms": 0.66,
                "latency_ratio": 0.5,
                "ratio_interval": [0.48, 0.52],
                "size_bytes": 372_000,
                "metric": 0.512,
                "training": False,
            },
        ],
    }
    return record | other


ENVIRONMENT = {
    "secateur": "0.1.0.dev0",
    "python": "3.11.7",
    "torch": "2.13.0",
    "packages": {"onnx": "1.23.0", "onnxruntime": "1.31.0"},
    "processor": "an x86-64 processor",
    "cores": 2,
    "threads": 2,
    "platform": "Linux",
    "seed": 0,
    "hashes": {"model": "5f2c9e01", "data": "a77b1d40", "recipe": "0c44e9aa"},
    "started": "2026-11-20T10:00:00Z",
    "finished": "2026-11-20T10:04:11Z",
}


def write(folder: Path, **records: Any) -> Path:
    """Writes the records; a keyword replaces one (``verdict_json={...}``), None leaves its file out."""
    rounds = [
        timing("pruned-int8", 0.9 - 0.04 * k, f"round {k}", predicted_ms=0.88 - 0.04 * k) for k in range(1, 7)
    ]
    final = [
        timing("dense-fp32", 2.31),
        timing("dense-int8", 1.32, loaded=True),
        timing("pruned-fp32", 0.98),
        timing("pruned-int8", 0.631, predicted_ms=0.64),
    ]
    content: dict[str, Any] = {
        "recipe.yaml": RECIPE,
        "environment.json": ENVIRONMENT,
        "analysis.json": analysis(),
        "layers.json": layers(),
        "history.jsonl": history(),
        "measurements.jsonl": rounds + final,
        "verdict.json": verdict(),
        "model.safetensors": "",
    }
    content |= {".".join(name.rsplit("_", 1)): value for name, value in records.items()}
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in content.items():
        if value is None:
            continue
        if isinstance(value, str):
            text = value
        elif name.endswith("l"):
            text = "".join(json.dumps(record) + "\n" for record in value)
        else:
            text = json.dumps(value)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """``make_run("name", verdict_json=...)`` writes a run folder and returns it."""
    return lambda name="run", **records: write(tmp_path / name, **records)


@pytest.fixture
def met() -> Callable[..., dict[str, Any]]:
    """The verdict of the synthetic run, with keys replaced."""
    return verdict
