"""Is a gain claimed where there is none? Two copies of one artifact, measured in turn, two hundred times.

    python benchmarks/latency_claims.py [--trials 200] [--threads 1] [--busy]

A gain is claimed where the whole 95 % interval of the ratio lies below one, so by chance in 2.5 % of the trials. With
``--busy`` another process keeps the core busy that the measurement runs on. Writes
``benchmarks/results/latency-claims.json`` after every trial and the table in ``docs/latency.md``; run again, it does
what is missing.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]

import torch  # noqa: E402
from cifar_page import update, write_text  # noqa: E402
from latency_asked import conditions, options  # noqa: E402
from latency_models import build  # noqa: E402
from processes import read_store  # noqa: E402

from secateur.bench import Effort, Entry, measure  # noqa: E402
from secateur.bench.cores import physical_cores  # noqa: E402
from secateur.deploy import format_for  # noqa: E402

MODEL = "mobilenet_v3_large"
EFFORT = Effort(width=0.03, seconds=3.0)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = options(__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--busy", action="store_true", help="keep the core busy that is measured on")
    return parser.parse_args()


def main() -> int:
    """Runs the trials that have no record yet, then writes the table."""
    asked = arguments()
    torch.set_num_threads(1)
    file = asked.results / "latency-claims.json"
    store: dict[str, Any] = {"records": {}} if asked.anew else read_store(file)
    store["conditions"] = conditions(asked)
    trials = store["records"].setdefault("busy" if asked.busy else "quiet", [])
    model, sample = build(MODEL)
    exporter = format_for("onnxruntime", "fp32")
    with tempfile.TemporaryDirectory() as folder, occupied(asked.busy, asked.threads):
        one, two = Path(folder) / "one.onnx", Path(folder) / "two.onnx"
        exporter.write(model, sample, one, [sample])
        shutil.copy(one, two)
        for number in range(len(trials), asked.trials):
            found = measure(
                [Entry("one", one), Entry("two", two)],
                sample,
                threads=asked.threads,
                effort=EFFORT,
                seed=number,
            )[1]
            trials.append({"ratio": found.ratio, "interval": found.ratio_interval, "loaded": found.loaded})
            write_text(file, json.dumps(store) + "\n")
            if number % 20 == 19:
                print(said(trials), flush=True)
    update(asked.page, {"claims": table(store["records"], store["conditions"])})
    return 0


@contextmanager
def occupied(busy: bool, threads: int) -> Iterator[None]:
    """Another process on the cores that are measured on."""
    cores = physical_cores()[-threads:]
    others = [multiprocessing.Process(target=_spin, args=(core,), daemon=True) for core in cores if busy]
    for other in others:
        other.start()
    try:
        yield
    finally:
        for other in others:
            other.terminate()


def _spin(core: int) -> None:
    os.sched_setaffinity(0, {core})
    while True:
        sum(range(10_000))


def counts(trials: list[Mapping[str, Any]]) -> tuple[int, int]:
    """Trials in which a gain is claimed, and in which a loss is."""
    gains = sum(t["interval"][1] < 1.0 for t in trials)
    return gains, sum(t["interval"][0] > 1.0 for t in trials)


def said(trials: list[Mapping[str, Any]]) -> str:
    """One line for the terminal."""
    gains, losses = counts(trials)
    return f"{len(trials)} trials: {gains} gains and {losses} losses claimed"


def table(records: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """The part of the page that is written by this benchmark."""
    lines = [
        f"Measured {about['date']}, {about['threads']} thread, {MODEL} in ONNX Runtime fp32 against a copy of itself, "
        "at most 3 s each. Claimed: the whole 95 % interval lies below one (a gain) or above it.",
        "",
        "| machine | trials | gains claimed | losses claimed | width of the interval, median | said to be loaded |",
        "|---" * 6 + "|",
    ]
    names = {"quiet": "as it is", "busy": "the core kept busy by another process"}
    for kind, trials in records.items():
        gains, losses = counts(trials)
        widths = sorted(t["interval"][1] - t["interval"][0] for t in trials)
        loaded = sum(t["loaded"] for t in trials) / len(trials)
        lines.append(
            f"| {names[kind]} | {len(trials)} | {gains} | {losses} | {widths[len(widths) // 2]:.1%} "
            f"| {loaded:.0%} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
