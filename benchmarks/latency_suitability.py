"""Does the advice hold? What ``analyze`` predicts of ten models beside what cutting them really gives.

    python benchmarks/latency_suitability.py [--only NAME ...] [--threads N] [--seconds S]

For each model, in ONNX Runtime fp32 and INT8: suitability as ``analyze --target`` measures it; then the model with half
of the units of every group is cut, exported and measured in turn with the dense one. Writes
``benchmarks/results/latency-suitability.json`` after every model and the table in ``docs/latency.md``; run again, it
does what is missing.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]

import torch  # noqa: E402
from cifar_page import update, write_text  # noqa: E402
from latency_asked import DTYPES, conditions, options  # noqa: E402
from latency_models import build  # noqa: E402
from processes import read_store  # noqa: E402

import secateur as sc  # noqa: E402
from secateur.bench import Effort, Entry, measure  # noqa: E402
from secateur.deploy import format_for  # noqa: E402
from secateur.latency import Pace, Survey, Where, one_sample, suitability  # noqa: E402
from secateur.latency.suitability import WORTH  # noqa: E402

MODELS = (
    "resnet18", "mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x1_0", "efficientnet_b0", "regnet_y_400mf",
    "densenet121", "deit_tiny", "timm:convnext_atto", "minilm",
)  # fmt: skip
EFFORT = Effort(width=0.01, seconds=6.0)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = options(__doc__, MODELS)
    parser.add_argument("--seconds", type=float, default=100.0, help="for timing, in each dtype")
    return parser.parse_args()


def main() -> int:
    """Measures what has no record yet, then writes the table."""
    asked = arguments()
    torch.set_num_threads(1)
    file = asked.results / "latency-suitability.json"
    store: dict[str, Any] = {"records": {}} if asked.anew else read_store(file)
    store["conditions"] = conditions(asked)
    for name in asked.only:
        if name not in store["records"]:
            store["records"][name] = judged(name, asked)
            write_text(file, json.dumps(store, indent=1) + "\n")
        print(f"{name}: {store['records'][name]}", flush=True)
    update(asked.page, {"suitability": table(store["records"], store["conditions"])})
    return 0


def judged(name: str, asked: argparse.Namespace) -> dict[str, Any]:
    """What is predicted of a model, and what half of its units then gave, in each dtype."""
    model, sample = _model(name)
    groups = sc.find_groups(sc.trace(model, sample))
    places = {dtype: Where("onnxruntime", dtype, threads=asked.threads) for dtype in DTYPES}
    inputs = one_sample(groups.graph)
    with tempfile.TemporaryDirectory() as scratch:
        found = suitability(
            groups, inputs, places, Path(scratch), Survey(pace=Pace.within(asked.seconds)), effort=EFFORT
        )
        half = sc.prune(model, sample, keep=0.5).model
        measured = {dtype: _ratio(model, half, inputs, dtype, Path(scratch), asked) for dtype in DTYPES}
    return {
        "verdict": found.verdict,
        "words": found.words,
        "dtypes": {
            d.dtype: {
                "of_fp32": d.ratio,
                "fixed": d.fixed,
                "predicted": d.half,
                "measured": measured[d.dtype],
                "dense_ms": d.dense_ms,
            }
            for d in found.dtypes
        },
    }


def _model(name: str) -> tuple[Any, Any]:
    if not name.startswith("timm:"):
        return build(name)
    import timm
    from torchvision_operators import define

    define()
    torch.manual_seed(0)
    return timm.create_model(name.removeprefix("timm:"), pretrained=False).eval(), torch.randn(1, 3, 224, 224)


def _ratio(dense: Any, half: Any, inputs: Any, dtype: str, folder: Path, asked: argparse.Namespace) -> float:
    exporter = format_for("onnxruntime", dtype)
    entries = []
    for name, module in (("dense", dense), ("half", half)):
        path = exporter.write(module, inputs, folder / f"{name}-{exporter.filename}", [inputs])
        entries.append(Entry(name, path, dtype=dtype))
    return float(measure(entries, inputs, threads=asked.threads, effort=EFFORT)[1].ratio or 1.0)


def table(records: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """The part of the page that is written by this benchmark."""
    rows, near, signs, gains = [], 0, 0, 0
    for name, record in records.items():
        dtype, best = min(record["dtypes"].items(), key=lambda item: item[1]["of_fp32"])
        error = best["predicted"] / best["measured"] - 1
        near += abs(error) <= 0.15
        signs += (best["predicted"] < 1) == (best["measured"] < 1)
        gains += (1 / best["predicted"] >= WORTH) == (1 / best["measured"] >= WORTH)
        cells = [
            f"{d['predicted']:.2f}x / {d['measured']:.2f}x" for d in (record["dtypes"][k] for k in DTYPES)
        ]
        rows.append(
            f"| {name} | {record['dtypes']['int8']['of_fp32']:.2f}x | {record['verdict']} | {dtype} "
            f"| {best['fixed']:.0%} | {cells[0]} | {cells[1]} | {error:+.0%} |"
        )
    return "\n".join(
        [
            f"Measured {about['date']}, {about['threads']} thread, batch 1. Predicted and measured: latency with half "
            "of the units of every group, as a share of the dense one in the same dtype. The error is that of the "
            f"dtype in which the dense model is faster: within 15 % for {near} of {len(records)}, the same sign for "
            f"{signs}, the same side of {WORTH}x for {gains}.",
            "",
            "| model | INT8 alone, of fp32 | advice | faster dtype | not changed by a width "
            "| fp32: predicted / measured | INT8: predicted / measured | error |",
            "|---" * 8 + "|",
            *rows,
        ]
    )


if __name__ == "__main__":
    raise SystemExit(main())
