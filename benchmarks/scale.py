"""A Llama of 1.2 billion parameters on one machine: analysed from shapes alone, and cut in shards.

    python benchmarks/scale.py [--rounds N] [--folder FOLDER]

Every measurement in a process of its own, one at a time: the analysis of 16, 32, 64 and 128 layers on the meta device;
a checkpoint of random weights (2.5 GB, in a temporary folder), scored and cut. Writes ``benchmarks/results/scale.json``
after every process and the tables in ``docs/scale.md`` at the end; run again, it does what is missing (``--anew`` does
all).
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from math import log2
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]

from cifar_page import update, write_text  # noqa: E402
from processes import Record, installed, read_store, run_apart  # noqa: E402

DEPTHS = (16, 32, 64, 128)
SHARDS = ("score", "cut", "cut-own-twin")
EXPORT = ("export", "program")  # torch.export, and its own way back to a module
LATER = ("plan for a budget",)  # no part of the analysis
SECONDS, BYTES = 900.0, 8_000_000_000


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="processes for each depth")
    parser.add_argument("--depths", nargs="+", type=int, default=DEPTHS, help="numbers of layers")
    parser.add_argument("--anew", action="store_true", help="also what has a record")
    parser.add_argument("--folder", type=Path, help="where the checkpoint is written for a while")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "scale.md")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    return parser.parse_args()


def main() -> int:
    """Runs what has no record yet, then writes the page."""
    asked = arguments()
    asked.results.mkdir(parents=True, exist_ok=True)
    file = asked.results / "scale.json"
    store: dict[str, Any] = {"records": {}} if asked.anew else read_store(file)
    store["conditions"] = conditions(asked)
    records: dict[str, Record] = store["records"]
    environment = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

    def measured(key: str, job: str, argument: str) -> Record:
        worker = ROOT / "benchmarks" / "scale_worker.py"
        record = run_apart(worker, (job, argument), SECONDS, BYTES, environment)
        print(f"{key}: {'FAILED, ' + record['problem'] if not record['ran'] else said(record)}", flush=True)
        return record

    for turn in range(asked.rounds):
        for layers in asked.depths:
            key = f"analyse {layers} {turn}"
            if key not in records:
                records[key] = measured(key, "analyse", str(layers))
                write_text(file, json.dumps(store, indent=1) + "\n")
    if any(name not in records for name in SHARDS):
        folder = Path(tempfile.mkdtemp(prefix="secateur-scale-", dir=asked.folder))
        try:
            records["write"] = measured("write", "write", str(folder / "llama"))
            for name in SHARDS:
                records[name] = measured(name, name, str(folder / "llama"))
                write_text(file, json.dumps(store, indent=1) + "\n")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    update(
        asked.page,
        {"depth": depths(records), "shards": shards(records), "conditions": about(store["conditions"])},
    )
    print(f"{asked.page} and {file} are written")
    return 0


def said(record: Record) -> str:
    """What the terminal shows of one record."""
    parts = ", ".join(f"{name} {p['seconds']:.1f} s" for name, p in record.get("parts", {}).items())
    return f"{parts}; peak {record['peak_bytes'] / 1e9:.2f} GB"


def least(
    records: Sequence[Record], clock: str, parts: Sequence[str] | None, without: Sequence[str] = ()
) -> float:
    """The least time of some rounds in some of the parts: what disturbs a process only adds to it."""
    return min(
        sum(
            p[clock]
            for name, p in r["parts"].items()
            if (parts is None or name in parts) and name not in without
        )
        for r in records
    )


def depths(records: Mapping[str, Record]) -> str:
    """The analysis by the number of layers."""
    rows: dict[int, dict[str, float]] = {}
    for layers in DEPTHS:
        runs = [r for k, r in records.items() if k.startswith(f"analyse {layers} ") and r["ran"]]
        if runs:
            row = {"parameters": runs[0]["parameters"], "peak": max(r["peak_bytes"] for r in runs)}
            for clock in ("seconds", "processor"):
                row[f"export {clock}"] = least(runs, clock, EXPORT)
                row[f"analysis {clock}"] = least(runs, clock, None, (*EXPORT, *LATER))
                row[f"budget {clock}"] = least(runs, clock, LATER)
            rows[layers] = row
    if not rows:
        return "Nothing measured yet."
    first = rows[min(rows)]
    whole, alone = (first[f"export {c}"] + first[f"analysis {c}"] for c in ("seconds", "processor"))
    export, most = first["export seconds"], first["peak"] / 1e9
    lines = [
        f"**{first['parameters'] / 1e9:.2f} billion parameters: {whole:.1f} s** by the clock ({export:.1f} s of it "
        f"torch.export), {alone:.1f} s of processor time, **{most:.2f} GB** at most, the imports of torch and "
        "transformers included." + grown(rows),
        "",
        "| layers | parameters, 10⁹ | torch.export, s | by processor | analysis, s | by processor "
        "| plan for a budget, s | by processor | peak, GB |",
        "|---" * 9 + "|",
    ]
    for layers, r in rows.items():
        times = [
            r[f"{part} {clock}"]
            for part in ("export", "analysis", "budget")
            for clock in ("seconds", "processor")
        ]
        cells = " | ".join(f"{t:.2f}" for t in times)
        lines.append(f"| {layers} | {r['parameters'] / 1e9:.2f} | {cells} | {r['peak'] / 1e9:.2f} |")
    return "\n".join(lines)


def grown(rows: Mapping[int, Mapping[str, float]]) -> str:
    """How the times grow with the layers, as an exponent: one is linear."""
    low, high = min(rows), max(rows)
    if low == high:
        return ""

    def exponent(part: str) -> float:
        return log2(rows[high][part] / rows[low][part]) / log2(high / low)

    parts = {
        "torch.export": "export processor",
        "the analysis": "analysis processor",
        "a budget": "budget processor",
    }
    words = ", ".join(f"{name} to the power {exponent(part):.2f}" for name, part in parts.items())
    return f" From {low} to {high} layers, processor time grows with their number: {words}."


def shards(records: Mapping[str, Record]) -> str:
    """The checkpoint, cut."""
    lines = ["| | seconds | by processor | peak so far, GB |", "|---|---|---|---|"]
    heads = {
        "score": "magnitudes and a plan", "cut": "cut, twin of the program",
        "cut-own-twin": "cut, twin of the caller's",
    }  # fmt: skip
    for name, head in heads.items():
        record = records.get(name, {"ran": False, "problem": "not measured"})
        if not record["ran"]:
            lines.append(f"| {head} | {record['problem']} | | |")
            continue
        for part, p in record["parts"].items():
            lines.append(
                f"| {head}: {part} | {p['seconds']:.1f} | {p['processor']:.1f} | {p['peak_bytes'] / 1e9:.2f} |"
            )
    cut = records.get("cut", {})
    if cut.get("ran"):
        before, after = cut["bytes"]["before"] / 1e9, cut["bytes"]["after"] / 1e9
        stored = records.get("write", {})
        lines += [
            "",
            f"The checkpoint: {before:.2f} GB in {stored.get('shards')} shards, the largest tensor "
            f"{stored.get('largest', 0) / 1e9:.2f} GB; cut, {after:.2f} GB. What its record says:",
            "",
            f"> {cut['said']}",
        ]
    return "\n".join(lines)


def conditions(asked: argparse.Namespace) -> dict[str, Any]:
    """Date, versions and machine."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {p: installed(p) for p in ("secateur", "torch", "transformers")},
        "python": platform.python_version(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "rounds": asked.rounds,
    }


def about(c: Mapping[str, Any]) -> str:
    """The conditions in a sentence."""
    versions = ", ".join(f"{name} {number}" for name, number in c["versions"].items())
    return (
        f"Measured {c['date']} on {c['cores']} cores ({c['processor']}), shared with other work, one thread, Python "
        f"{c['python']}; {versions}. Least of one to {c['rounds']} processes for each depth; shards once. "
        "On a shared machine processor time says more than seconds."
    )


if __name__ == "__main__":
    raise SystemExit(main())
