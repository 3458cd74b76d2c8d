"""Asked for a share of the dense latency, what comes out: the whole of ``compress``, on models with random weights.

    python benchmarks/latency_contract.py [--only NAME ...] [--dtypes D ...] [--shares S ...]

Latency depends on shapes alone, so nothing is trained and the data are noise; everything else is as in any run. Writes
``benchmarks/results/latency-contract.json`` after every run and the table in ``docs/latency.md``; run again, it does
what is missing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]

import torch  # noqa: E402
from cifar_page import update, write_text  # noqa: E402
from latency_asked import DTYPES, conditions, options  # noqa: E402
from latency_models import MODELS, build  # noqa: E402
from processes import read_store  # noqa: E402
from torch import Tensor  # noqa: E402

import secateur as sc  # noqa: E402
from secateur.recipe import (  # noqa: E402
    CriterionOptions,
    MeasureOptions,
    Recipe,
    RecoveryOptions,
    ScheduleOptions,
)

SAMPLES = 4


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = options(__doc__, MODELS, DTYPES)
    parser.add_argument(
        "--shares", nargs="+", default=["0.5x", "0.35x"], help="or other budgets: memory=0.7x"
    )
    return parser.parse_args()


def main() -> int:
    """Runs what has no record yet, then writes the table."""
    asked = arguments()
    torch.set_num_threads(1)
    file = asked.results / "latency-contract.json"
    store: dict[str, Any] = {"records": {}} if asked.anew else read_store(file)
    store["conditions"] = conditions(asked)
    for model in asked.only:
        for dtype in asked.dtypes:
            for share in asked.shares:
                key = f"{model} {dtype} {share}"
                if key not in store["records"]:
                    store["records"][key] = kept(model, dtype, share, asked.threads)
                    write_text(file, json.dumps(store, indent=1) + "\n")
                print(f"{key}: {store['records'][key]}", flush=True)
    update(asked.page, {"contract": table(store["records"], store["conditions"])})
    return 0


def kept(name: str, dtype: str, share: str, threads: int) -> dict[str, Any]:
    """One run of ``compress``: what was asked, what was measured, and how many candidates and corrections it took."""
    model, sample = build(name)
    recipe = Recipe(
        budget=sc.Budget(**dict([share.split("=")] if "=" in share else [("latency", share)])),
        target=f"onnxruntime:{dtype}",
        threads=threads,
        criterion=CriterionOptions("magnitude"),
        schedule=ScheduleOptions(rounds=1),
        recovery=RecoveryOptions(epochs=0, final_epochs=0),
        depth="off",
        measure=MeasureOptions(rounds=False),
    )
    start, out = time.perf_counter(), Path(tempfile.mkdtemp()) / "run"
    try:
        run = sc.compress(
            model, batches(sample), recipe=recipe, out=out, task=nothing(), example_inputs=sample, quiet=True
        )
        (row,) = run.record["budgets"]
        steps = [json.loads(line)["step"] for line in (out / "journal.jsonl").read_text().splitlines()]
        return {
            "verdict": run.verdict,
            "ratio": row["achieved"] / row["dense"],
            "interval": [v / row["dense"] for v in row["interval"] or [row["achieved"]] * 2],
            "candidates": sum(s.startswith("probe") for s in steps),
            "corrections": sum(s.startswith("final") for s in steps) - 1,
            "seconds": time.perf_counter() - start,
        }
    except sc.Infeasible as error:
        return {"verdict": "infeasible", "why": str(error), "seconds": time.perf_counter() - start}
    finally:
        shutil.rmtree(out.parent, ignore_errors=True)


def batches(sample: Any) -> tuple[list[Any], list[Any]]:
    """Noise in the form of the model's inputs, with targets that mean nothing."""
    inputs = _repeated(sample)
    return [(inputs, torch.zeros(SAMPLES))] * 8, [(inputs, torch.zeros(SAMPLES))]


def _repeated(sample: Any) -> Any:
    if isinstance(sample, Mapping):
        return {name: _repeated(tensor) for name, tensor in sample.items()}
    return sample.repeat(SAMPLES, *[1] * (sample.dim() - 1))


def nothing() -> sc.Task:
    """A task that asks for nothing: quality is not what this is about."""

    def zero(outputs: Tensor, targets: Tensor) -> float:
        return 0.0

    return sc.Task(loss=lambda outputs, targets: outputs.float().square().mean(), metric=zero, name="nothing")


def table(records: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """The part of the page that is written by this benchmark."""
    lines = [
        f"Measured {about['date']}, {about['threads']} thread, batch 1. Candidates: untrained cuts that were exported "
        "and measured before the first round; corrections: rounds after it, where the artifact was over the budget.",
        "",
        "| model | dtype | asked | measured | interval | verdict | candidates | corrections | seconds |",
        "|---" * 9 + "|",
    ]
    for key, r in records.items():
        model, dtype, share = key.split()
        if r["verdict"] == "infeasible":
            lines.append(
                f"| {model} | {dtype} | {share} | {r['why']} | | infeasible | | | {r['seconds']:.0f} |"
            )
            continue
        low, high = r["interval"]
        lines.append(
            f"| {model} | {dtype} | {share} | {r['ratio']:.3f}x | {low:.3f} to {high:.3f} | {r['verdict']} "
            f"| {r['candidates']} | {r['corrections']} | {r['seconds']:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
