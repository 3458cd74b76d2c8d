"""Secateur beside Torch-Pruning, part by part, on the models of the zoo that both handle.

    python benchmarks/speed.py [--only NAME ...] [--rounds N]

Each model and tool in a process of its own; within a round the two tools follow each other on every model, in turn
first. Writes ``benchmarks/results/speed.json`` after every process and the table in ``docs/speed.md`` at the end; run
again, it does what is missing (``--anew`` does all).
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]

from cifar_page import update, write_text  # noqa: E402
from processes import Record, installed, read_store, run_apart  # noqa: E402

TOOLS = ("secateur", "torch-pruning")
ANALYSIS = ("form", "groups", "score", "plan", "cut")  # of either tool; the peer scores inside its cut
SECONDS, BYTES = 300.0, 8_000_000_000


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="models whose name contains one of these")
    parser.add_argument("--rounds", type=int, default=3, help="processes for each model and tool")
    parser.add_argument("--anew", action="store_true", help="also what has a record")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "speed.md")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    return parser.parse_args()


def main() -> int:
    """Runs what has no record yet, then writes the page."""
    asked = arguments()
    if installed("torch-pruning") is None:
        print("Torch-Pruning is not installed: pip install torch-pruning==1.6.1", file=sys.stderr)
        return 2
    both = handled_by_both((ROOT / "docs" / "zoo.md").read_text())
    chosen = [m for m in both if not asked.only or any(part in m for part in asked.only)]
    asked.results.mkdir(parents=True, exist_ok=True)
    file = asked.results / "speed.json"
    store: dict[str, Any] = {"records": {}} if asked.anew else read_store(file)
    store["conditions"] = conditions(asked)
    records: dict[str, Record] = store["records"]
    environment = {"ZOO_THREADS": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    for turn in range(asked.rounds):
        for place, model in enumerate(chosen):
            for tool in TOOLS if (turn + place) % 2 == 0 else TOOLS[::-1]:
                key = f"{tool} {model} {turn}"
                if key in records:
                    continue
                worker = ROOT / "benchmarks" / "speed_worker.py"
                records[key] = run_apart(worker, (tool, model), SECONDS, BYTES, environment)
                write_text(file, json.dumps(store, indent=1) + "\n")
                print(f"{key}: {said(records[key])}", flush=True)
    update(asked.page, {"speed": page(records, both, store["conditions"])})
    print(f"{asked.page} and {file} are written")
    return 0


def handled_by_both(zoo: str) -> list[str]:
    """Models that the page of the zoo says both tools prune, in its order."""
    rows = re.findall(r"^\| (\S+:\S+) \|(.*)\|$", zoo, re.MULTILINE)
    cells = {name: [c.strip() for c in rest.split("|")] for name, rest in rows}
    return [name for name, c in cells.items() if len(c) > 8 and c[0] == "yes" and c[7] == "yes"]


def said(record: Record) -> str:
    """What the terminal shows of one record."""
    if not record["ran"]:
        return f"FAILED, {record['problem']}"
    parts = ", ".join(f"{name} {1e3 * s:.0f}" for name, s in record["seconds"].items())
    return f"{parts} ms; analysis and cut {1e3 * spent(record, 'seconds', ANALYSIS):.0f} ms"


def spent(record: Record, clock: str, parts: Sequence[str] | None = None) -> float:
    """Seconds in some of the parts, or in all."""
    return sum(s for name, s in record[clock].items() if parts is None or name in parts)


def page(records: Mapping[str, Record], models: Sequence[str], about: Mapping[str, Any]) -> str:
    """The part of the page that is written by the benchmark: the summary, the conditions, one row a model."""
    rows = list(rows_of(records, models))
    if not rows:
        return "Nothing measured yet."
    ratio, by_cpu = (median(r[k] for r in rows) for k in ("ratio", "ratio_cpu"))
    whole = sorted(r["all"] for r in rows)
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    theirs = [r["theirs"] for r in rows]
    heads = (
        "model",
        "export",
        *ANALYSIS,
        "check",
        "all",
        "analysis and cut",
        "Torch-Pruning",
        "ratio",
        "by CPU time",
    )
    lines = [
        f"**Analysis and cut: {ratio:.1f} times as fast as Torch-Pruning at the median of {len(rows)} of {len(models)} "
        "models** "
        f"({by_cpu:.1f} times by processor time), least {min(r['ratio'] for r in rows):.1f}, most "
        f"{max(r['ratio'] for r in rows):.0f}; faster on {sum(r['ratio'] > 1 for r in rows)} of {len(rows)}. "
        f"All included, export and numerical check too: median {median(whole):.1f} s, longest {whole[-1]:.1f} s; "
        f"Torch-Pruning: median {median(theirs):.2f} s, longest {max(theirs):.1f} s.",
        "",
        f"Measured {about['date']} on {about['cores']} cores ({about['processor']}), one thread, "
        f"Python {about['python']}; {versions}. Medians over {about['rounds']} processes for each model and tool, one "
        "process at a time, the two tools in turn; each has run the model once before. Seconds. Both keep half of "
        "every layer by L2 magnitude. Export: torch.export, and its program as a module. Form: bringing that program "
        "into one form. Groups, score, plan and cut: as `sc.prune` does them, with heads and groups that lose units of "
        "their own; the cut program's code is written in the last. Check: the program beside the model, for which "
        "alone the code of the traced program is written, and the cut beside the masked original at every node; "
        "Torch-Pruning has none. Ratio: Torch-Pruning's dependency graph and step, to form, groups, score, plan and "
        "cut together. Garbage is collected between the parts, outside of the clock: what torch.export leaves is not "
        "cleared away at the cost of another part.",
        "",
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
    ]
    for r in rows:
        parts = " | ".join(f"{r['parts'][p]:.3f}" for p in ("export", *ANALYSIS, "check"))
        lines.append(
            f"| {r['model']} | {parts} | {r['all']:.2f} | {r['ours']:.3f} | {r['theirs']:.3f} | {r['ratio']:.1f} "
            f"| {r['ratio_cpu']:.1f} |"
        )
    failed = [f"- {key}: {r['problem']}" for key, r in records.items() if not r["ran"]]
    return "\n".join([*lines, *([""] if failed else []), *failed])


def rows_of(records: Mapping[str, Record], models: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Medians for each model that both tools pruned in every round that was run."""
    for model in models:
        held = {t: [r for k, r in records.items() if k.rsplit(" ", 1)[0] == f"{t} {model}"] for t in TOOLS}
        if not all(runs and all(r["ran"] for r in runs) for runs in held.values()):
            continue
        ours, theirs = held[TOOLS[0]], held[TOOLS[1]]
        row: dict[str, Any] = {
            "model": model,
            "parts": {p: median(r["seconds"][p] for r in ours) for p in ours[0]["seconds"]},
            "all": median(spent(r, "seconds") for r in ours),
            "ours": median(spent(r, "seconds", ANALYSIS) for r in ours),
            "theirs": median(spent(r, "seconds") for r in theirs),
        }
        cpu = median(spent(r, "processor") for r in theirs) / median(
            spent(r, "processor", ANALYSIS) for r in ours
        )
        yield {**row, "ratio": row["theirs"] / row["ours"], "ratio_cpu": cpu}


def conditions(asked: argparse.Namespace) -> dict[str, Any]:
    """Date, versions and machine."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {p: installed(p) for p in ("secateur", "torch", "torchvision", "timm", "torch-pruning")},
        "python": platform.python_version(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "rounds": asked.rounds,
    }


if __name__ == "__main__":
    raise SystemExit(main())
