"""Predicted latency beside measured latency, on random plans, in ONNX Runtime in fp32 and INT8.

    python benchmarks/latency.py [--only NAME ...] [--plans N] [--threads N]

For each model and dtype: networks of random widths are measured and fitted, as ``compress`` does it; then other plans,
drawn group by group, are predicted, cut, exported and measured in turn with the dense model, twice. Writes
``benchmarks/results/latency.json`` after every plan and the table in ``docs/latency.md`` at the end; run again, it does
what is missing.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from cifar_page import update, write_text  # noqa: E402
from latency_asked import DTYPES, conditions, options  # noqa: E402
from latency_models import MODELS, build  # noqa: E402
from processes import read_store  # noqa: E402

import secateur as sc  # noqa: E402
from secateur.bench import Effort, Entry, measure  # noqa: E402
from secateur.cost import FittedLatency  # noqa: E402
from secateur.deploy import format_for  # noqa: E402
from secateur.latency import Where, fit_latency  # noqa: E402
from secateur.planning import Problem, Rounding, plan_of  # noqa: E402
from secateur.surgery import cut_groups  # noqa: E402

LEAST = 0.25  # share of units that a plan keeps of a group, at least
EFFORT = Effort(width=0.02, min_turns=15, seconds=4.0)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = options(__doc__, MODELS, DTYPES)
    parser.add_argument("--plans", type=int, default=20)
    return parser.parse_args()


def main() -> int:
    """Measures what has no record yet, then writes the page."""
    asked = arguments()
    torch.set_num_threads(1)
    file = asked.results / "latency.json"
    store: dict[str, Any] = {"records": {}} if asked.anew else read_store(file)
    store["conditions"] = conditions(asked, "plans")
    for model in asked.only:
        for dtype in asked.dtypes:
            key = f"{model} {dtype}"
            record = store["records"].setdefault(key, {"plans": []})
            for _ in predictions(model, dtype, asked, record):
                write_text(file, json.dumps(store, indent=1) + "\n")
            write_text(file, json.dumps(store, indent=1) + "\n")
            print(f"{key}: {said(record)}", flush=True)
    update(asked.page, {"latency": page(store["records"], store["conditions"])})
    print(f"{asked.page} and {file} are written")
    return 0


def predictions(name: str, dtype: str, asked: argparse.Namespace, record: dict[str, Any]) -> Any:
    """Fits a model, predicts plans that the fit has not seen, measures those not measured yet; yields after each."""
    model, sample = build(name)
    groups = sc.find_groups(sc.trace(model, sample))
    where = Where("onnxruntime", dtype, threads=asked.threads)
    start = time.perf_counter()
    fit = fit_latency(groups, sample, where)
    record.setdefault("fit_seconds", time.perf_counter() - start)
    record.update(
        networks=fit.networks,
        left_out={"median": fit.median_error, "p90": fit.p90_error},
        terms=len(fit.terms),
    )
    latency, macs = FittedLatency(groups.graph, fit).bind(groups), sc.Macs(groups.graph).bind(groups)
    scores = sc.score(model, groups, sc.Random(1))
    problem = Problem(scores, Rounding(), None)
    exporter = format_for("onnxruntime", dtype)
    with tempfile.TemporaryDirectory() as folder:
        dense = Path(folder) / f"dense-{exporter.filename}"
        if len(record["plans"]) < asked.plans:
            exporter.write(groups.graph.module, sample, dense, [sample])
        for number in range(asked.plans):
            shares = LEAST ** np.random.default_rng(1000 + number).random(len(problem.bundles))
            wanted = [
                b.nearest(problem.rounding, s * b.levels)
                for b, s in zip(problem.bundles, shares, strict=True)
            ]
            widths = np.clip(np.array(wanted, dtype=np.int64), problem.floors, problem.units)
            alive = problem.alive(widths)
            told = {"predicted": latency.of(alive) / latency.dense, "macs": macs.of(alive) / macs.dense}
            if number < len(record["plans"]):
                record["plans"][number].update(told)  # measurements last, predictions get better
                continue
            cut = cut_groups(groups, plan_of(groups, problem.dead(widths), scores.orders)).module
            path = Path(folder) / exporter.filename
            exporter.write(cut, sample, path, [sample])
            entries = [Entry("dense", dense, dtype=dtype), Entry("cut", path, dtype=dtype)]
            twice = [measure(entries, sample, threads=asked.threads, effort=EFFORT, seed=s) for s in (0, 1)]
            ratios = [found[1].ratio for found in twice]
            loaded = any(m.loaded for found in twice for m in found)
            record["plans"].append({**told, "measured": ratios, "loaded": loaded})
            record["dense_ms"] = twice[0][0].median_ms
            yield record


def figures(record: Mapping[str, Any]) -> dict[str, float]:
    """Errors and rank correlation of predictions, the same for multiply-adds, and the noise of the measurement."""
    from scipy.stats import spearmanr

    both = np.array([p["measured"] for p in record["plans"]])
    measured = both.mean(axis=1)
    noise = np.abs(both[:, 0] / both[:, 1] - 1)
    out = {"noise": float(np.median(noise)), "noise_p90": float(np.quantile(noise, 0.9))}
    for kind in ("predicted", "macs"):
        values = np.array([p[kind] for p in record["plans"]])
        errors = np.abs(values / measured - 1)
        out[kind] = float(np.median(errors))
        out[f"{kind}_p90"] = float(np.quantile(errors, 0.9))
        out[f"{kind}_rank"] = float(spearmanr(values, measured).statistic)
    return out


def said(record: Mapping[str, Any]) -> str:
    """One line for the terminal."""
    f = figures(record)
    return (
        f"median error {f['predicted']:.1%}, nine in ten {f['predicted_p90']:.1%}, ranks {f['predicted_rank']:.3f}; "
        f"multiply-adds {f['macs']:.0%}, {f['macs_p90']:.0%}, {f['macs_rank']:.3f}; "
        f"noise {f['noise']:.1%}, {f['noise_p90']:.1%}"
    )


def page(records: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """The part of the page that is written by the benchmark."""
    done = {key: r for key, r in records.items() if len(r["plans"]) >= about["plans"]}
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    lines = [
        f"Measured {about['date']} on {about['cores']} cores ({about['processor']}), {about['threads']} thread, "
        f"batch 1; {versions}. {about['plans']} plans each: shares kept drawn log-uniformly from {LEAST} to 1, group "
        "by group, widths in multiples of eight. Errors are of the ratio to the dense model in the same dtype, "
        "measured in turn; noise is the difference between two such measurements of the same plan. Fit: seconds of "
        "measuring before the first prediction, export included; they are spent once.",
        "",
        "| model | dtype | dense ms | fit, s | networks | median error | 90th percentile | ranks (Spearman) "
        "| noise, median | noise, 90th | multiply-adds: median error | 90th | ranks |",
        "|---" * 13 + "|",
    ]
    for key, record in done.items():
        f, (model, dtype) = figures(record), key.split()
        lines.append(
            f"| {model} | {dtype} | {record['dense_ms']:.1f} | {record['fit_seconds']:.0f} | {record['networks']} "
            f"| {f['predicted']:.1%} | {f['predicted_p90']:.1%} | {f['predicted_rank']:.3f} | {f['noise']:.1%} "
            f"| {f['noise_p90']:.1%} | {f['macs']:.0%} | {f['macs_p90']:.0%} | {f['macs_rank']:.3f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
