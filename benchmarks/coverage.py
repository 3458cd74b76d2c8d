"""Every model that exports, cut at random in every group and checked; each in a process of its own.

    python benchmarks/coverage.py [SOURCE ...] [--only REGEX] [--anew] [--jobs N]

SOURCE is ``timm``, ``torchvision`` or ``hf``; all by default. Writes ``benchmarks/results/coverage-SOURCE.json`` after
every model and the tables in ``docs/coverage.md`` at the end; run again, it does what is missing or failed
(``--anew`` does all that ``--only`` names, ``--page`` only writes the page). A process that takes too long or too
much memory is killed and counts as failed.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import platform
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]

from cifar_page import update, write_text  # noqa: E402
from coverage_page import at_outputs, header, overview, problems, section, total_seconds  # noqa: E402
from measured import portable  # noqa: E402
from processes import Record, installed, read_store, run_apart, run_forked  # noqa: E402

SOURCES = ("timm", "torchvision", "hf")
SECONDS, BYTES = 300.0, 10_000_000_000
PAGE, RESULTS = ROOT / "docs" / "coverage.md", ROOT / "benchmarks" / "results"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sources", nargs="*", metavar="SOURCE", help=f"{', '.join(SOURCES)}; default all")
    parser.add_argument("--only", metavar="REGEX", help="models whose name it matches somewhere")
    parser.add_argument("--anew", action="store_true", help="also models that have a good record")
    parser.add_argument(
        "--page", action="store_true", help="run nothing, write the page from the records there are"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument(
        "--fork",
        action="store_true",
        help="import once and fork for each model, which saves half of the time",
    )
    parser.add_argument("--limit", type=float, default=SECONDS, help="seconds for each process, all included")
    parser.add_argument("--memory", type=float, default=BYTES, help="bytes for each process")
    asked = parser.parse_args()
    if unknown := set(asked.sources) - set(SOURCES):
        parser.error(f"no source is called {', '.join(sorted(unknown))}; there are {', '.join(SOURCES)}")
    return asked


def main() -> int:
    """Runs what has no good record yet, then writes the page."""
    asked = arguments()
    chosen = asked.sources or [s for s in SOURCES if (ROOT / "benchmarks" / f"coverage_{s}.py").exists()]
    if not asked.page:
        for source in chosen:
            run(source, asked)
    sections, records = {}, {}
    for source in SOURCES:
        store = read_store(results(source))
        if store["records"]:
            records[source] = [r for name in names(source) if (r := store["records"].get(name))]
            under = header(store["conditions"], records[source])
            sections[f"coverage {source}"] = section(source, records[source], under)
    modules = importlib.import_module("coverage_timm").modules()
    update(PAGE, {"coverage": overview(records, modules), **sections})
    print(f"{PAGE} is written")
    return 0


def run(source: str, asked: argparse.Namespace) -> None:
    """The models of one source that are asked for and have no good record."""
    file = results(source)
    store = read_store(file)
    wanted = [n for n in names(source) if not asked.only or re.search(asked.only, n)]
    jobs = [n for n in wanted if asked.anew or not _done(store["records"].get(n))]
    print(
        f"{source}: {len(wanted)} models, {len(jobs)} to do{'' if wanted else f'; none matches {asked.only}'}"
    )
    guard, done = Lock(), 0

    def work(name: str) -> None:
        nonlocal done
        record = one(source, name, asked)
        with guard:
            done += 1
            latest = read_store(file)  # another run may have written meanwhile
            latest["records"][name] = record
            latest["conditions"] = conditions(asked)
            RESULTS.mkdir(parents=True, exist_ok=True)
            write_text(file, json.dumps(latest, indent=1, sort_keys=True) + "\n")
            print(f"[{done}/{len(jobs)}] {line(record)}", flush=True)

    with ThreadPoolExecutor(asked.jobs) as pool:
        list(pool.map(work, jobs))


def one(source: str, name: str, asked: argparse.Namespace) -> Record:
    """One model in a process of its own, with one thread."""
    own = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
    if asked.fork:
        os.environ |= own  # before torch is imported
        worker = importlib.import_module("coverage_worker")
        worker.warm(source)
        record = run_forked(lambda target: worker.main(source, name, target), asked.limit, asked.memory)
    else:
        script = ROOT / "benchmarks" / "coverage_worker.py"
        record = run_apart(script, [source, name], asked.limit, asked.memory, own)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    kept: Record = portable({"source": source, "model": name, "date": today, **record})
    return kept


def names(source: str) -> list[str]:
    """The models of a source, in the order of its list."""
    found: list[str] = importlib.import_module(f"coverage_{source}").names()
    return found


def results(source: str) -> Path:
    """Where the records of a source are kept."""
    return RESULTS / f"coverage-{source}.json"


def line(record: Record) -> str:
    """What the terminal shows of one record."""
    start = f"{record['source']} {record['model']}"
    wrong = problems(record)
    if record.get("refused"):
        return f"{start}: REFUSED, {record['refused']}"
    if not record["ran"]:
        return f"{start}: FAILED, {'; '.join(wrong)}"
    own = record.get("own_module") or {"none": "not reached"}
    second = f"{own['error']:.1e}" if "error" in own else own["none"]
    words = (
        f"{start}: prunable {record['prunable']:.4f}, fp32 {at_outputs(record):.1e}, "
        f"fp64 {record['error_double']:.1e}, own {second}, {total_seconds(record):.1f} s, "
        f"{record['peak_bytes'] / 1e9:.2f} GB"
    )
    return f"{words}{', MISSED: ' if wrong else ''}{'; '.join(wrong)}"


def conditions(asked: argparse.Namespace) -> dict[str, Any]:
    """Date, versions and machine."""
    packages = ("secateur", "torch", "torchvision", "timm", "transformers")
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {p: installed(p) for p in packages},
        "python": platform.python_version(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "jobs": asked.jobs,
        "limit_seconds": asked.limit,
        "limit_bytes": asked.memory,
    }


def _done(record: Record | None) -> bool:
    return record is not None and not problems(record)


if __name__ == "__main__":
    raise SystemExit(main())
