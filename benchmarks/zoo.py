"""``sc.prune(model, x, keep=0.5)`` on 60 models of torchvision and timm, each in a process of its own.

    python benchmarks/zoo.py [--peer] [--only NAME ...] [--jobs N] [--limit SECONDS]

Writes ``benchmarks/results/zoo.json`` after every model and the table in ``docs/zoo.md`` at the end; run again, it does
what is missing (``--anew`` does all). A process that exceeds the time or the memory is killed and counts as failed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]

from cifar_page import update, write_text  # noqa: E402
from processes import installed, read_store, run_apart  # noqa: E402
from zoo_models import MODELS  # noqa: E402
from zoo_page import Record, good, table  # noqa: E402

SECONDS, BYTES = 120.0, 8_000_000_000


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer", action="store_true", help="Torch-Pruning beside it, if it is installed")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="models whose name contains one of these")
    parser.add_argument(
        "--jobs", type=int, default=1, help="processes at a time; more than one disturbs the seconds"
    )
    parser.add_argument("--limit", type=float, default=SECONDS, help="seconds for each process, all included")
    parser.add_argument("--memory", type=float, default=BYTES, help="bytes for each process")
    parser.add_argument("--anew", action="store_true", help="also models that have a record of this version")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "zoo.md")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    return parser.parse_args()


def main() -> int:
    """Runs what has no record yet, then writes the page."""
    asked = arguments()
    tools = ["secateur"]
    if asked.peer:
        if installed("torch-pruning") is None:
            print("Torch-Pruning is not installed (pip install torch-pruning==1.6.1): left out")
        else:
            tools.append("torch-pruning")
    chosen = [m for m in MODELS if not asked.only or any(part in m for part in asked.only)]
    if not chosen:
        print(
            f"no model's name contains {' or '.join(asked.only)}; the names are {', '.join(MODELS)}",
            file=sys.stderr,
        )
        return 2
    asked.results.mkdir(parents=True, exist_ok=True)
    file = asked.results / "zoo.json"
    store = {"records": {}} if asked.anew and not asked.only else read_store(file)
    threads = max(1, (os.cpu_count() or 1) // asked.jobs)
    store["conditions"] = conditions(asked, threads)
    records: dict[str, Record] = store["records"]
    jobs = [(t, m) for t in tools for m in chosen if asked.anew or not _done(records.get(f"{t} {m}"), t)]
    guard, done = Lock(), 0

    def work(job: tuple[str, str]) -> None:
        nonlocal done
        record = one(*job, asked.limit, asked.memory, threads)
        with guard:
            done += 1
            records[" ".join(job)] = record
            write_text(file, json.dumps(store, indent=1) + "\n")
            print(f"[{done}/{len(jobs)}] {line(record)}", flush=True)

    with ThreadPoolExecutor(asked.jobs) as pool:
        list(pool.map(work, jobs))
    shown = {
        t: [records[f"{t} {m}"] for m in MODELS if f"{t} {m}" in records]
        for t in ("secateur", "torch-pruning")
    }
    update(asked.page, {"zoo": table(shown, header(store["conditions"]))})
    print(f"{asked.page} and {file} are written")
    return 0 if all(good(r) for r in shown["secateur"]) else 1


def one(tool: str, model: str, limit: float, memory: float, threads: int) -> Record:
    """One model in a process of its own, watched."""
    own = {"ZOO_THREADS": str(threads), "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    record = run_apart(ROOT / "benchmarks" / "zoo_worker.py", [tool, model], limit, memory, own)
    unsaid = {"tool": tool, "model": model, "seconds": None, "peak_bytes": record["process_bytes"]}
    return {**unsaid, **record, "version": installed(tool), "threads": threads}


def line(record: Record) -> str:
    """What the terminal shows of one record."""
    start = f"{record['tool']} {record['model']}"
    if not record["ran"]:
        return f"{start}: FAILED, {record['problem']}"
    words = (
        f"{start}: kept {record['kept']:.3f}, {record['seconds']:.1f} s, {record['peak_bytes'] / 1e9:.2f} GB"
    )
    if record["tool"] == "secateur":
        words += f", prunable {record['prunable']:.4f}, error {record['error']:.1e}, fp64 {record['error_double']:.1e}"
    return words if good(record) else f"{words}, MISSED"


def conditions(asked: argparse.Namespace, threads: int) -> dict[str, Any]:
    """Date, versions and machine."""
    packages = ("torch", "torchvision", "timm", "torch-pruning")
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {"secateur": installed("secateur"), **{p: installed(p) for p in packages}},
        "python": platform.python_version(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads,
        "jobs": asked.jobs,
        "limit_seconds": asked.limit,
        "limit_bytes": asked.memory,
    }


def header(c: dict[str, Any]) -> str:
    """The conditions in words."""
    versions = ", ".join(f"{name} {number}" for name, number in c["versions"].items() if number)
    return (
        f"Measured {c['date']} on {c['cores']} cores ({c['processor']}), {c['threads']} threads, {c['jobs']} process "
        f"at a time, Python {c['python']}; {versions}. Each model in a process of its own, killed after "
        f"{c['limit_seconds']:g} s or at {c['limit_bytes'] / 1e9:g} GB. Random weights; norm statistics, norm weights, "
        "biases and layer scales are drawn at random and queries and keys tripled, so that a wrong cut shows. "
        "Kept: of the parameters that the model uses in evaluation. Prunable: share of the parameters in prunable "
        "groups. "
        "Error: largest relative error against the masked original over all nodes, in fp32 as `sc.prune` checks it and "
        "in fp64. Seconds: `sc.prune` alone, its check included, without building the model. Peak: of the whole "
        "process's resident memory until then."
    )


def _done(record: Record | None, tool: str) -> bool:
    return record is not None and record["version"] == installed(tool) and record["ran"]


if __name__ == "__main__":
    raise SystemExit(main())
