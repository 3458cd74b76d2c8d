"""Ten thousand random networks, each put through every property of ``tests/random_networks``.

    python benchmarks/random_networks.py [--count N] [--jobs N] [--limit SECONDS] [--anew | --page | --explain SEED]

A network is grown from its number, so that a failure is a number. Runs a hundred networks at a time in a process of its
own, adds what came out to ``benchmarks/results/random-networks.json`` after each hundred, and writes
``docs/random-networks.md`` at the end. Run again, it does the hundreds that are missing and the networks that failed
(``--anew`` does all, ``--page`` only writes the page). ``--explain`` prints one network, what is wrong with it, and the
smallest part of it in which that is still wrong.
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
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks"), str(ROOT)]

from cifar_page import update, write_text  # noqa: E402
from processes import Record, installed, read_store, run_apart  # noqa: E402
from random_networks_page import failures, section, totals  # noqa: E402

COUNT, SECONDS, BYTES = 10_000, 60.0, 8_000_000_000
HUNDRED = 100
PAGE, RESULTS = ROOT / "docs" / "random-networks.md", ROOT / "benchmarks" / "results" / "random-networks.json"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=COUNT, help=f"networks; default {COUNT}, in hundreds")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--limit", type=float, default=SECONDS, help="seconds of processor time for each")
    parser.add_argument("--anew", action="store_true", help="also what has a good record")
    parser.add_argument(
        "--page", action="store_true", help="run nothing, write the page from the records there are"
    )
    parser.add_argument("--explain", type=int, metavar="SEED", help="one network, made as small as it fails")
    asked = parser.parse_args()
    if asked.count < 1 or asked.jobs < 1 or asked.limit <= 0:
        parser.error("--count, --jobs and --limit are above zero")
    return asked


def main() -> int:
    """Runs what has no good record yet, then writes the page; 1 if a network failed."""
    asked = arguments()
    if asked.explain is not None:
        from random_networks_worker import explain

        return explain(asked.explain)
    if not asked.page:
        run(asked)
    store = read_store(RESULTS)
    if store["records"]:
        update(PAGE, {"random networks": section(store)})
        print(f"{PAGE} is written")
    return 1 if failures(store["records"]) else 0


def run(asked: argparse.Namespace) -> None:
    """The hundreds without a record, and of the others the networks that failed."""
    if asked.anew and RESULTS.exists():
        RESULTS.unlink()
    records = read_store(RESULTS)["records"]
    jobs = [
        (h, seeds) for h in range(-(-asked.count // HUNDRED)) if (seeds := missing(h, records.get(str(h))))
    ]
    print(f"{asked.count} networks, {sum(len(s) for _, s in jobs)} to do", flush=True)
    guard, done = Lock(), 0

    def work(job: tuple[int, list[int]]) -> None:
        nonlocal done
        hundred, seeds = job
        found = apart(seeds, asked)
        with guard:
            done += 1
            store = read_store(RESULTS)
            store["records"][str(hundred)] = merged(store["records"].get(str(hundred)), found, seeds)
            store["conditions"] = conditions(asked)
            RESULTS.parent.mkdir(parents=True, exist_ok=True)
            write_text(RESULTS, json.dumps(store, indent=1, sort_keys=True) + "\n")
            sums, wrong = totals(store["records"]), failures(store["records"])
            last = "".join(f"; {s}: {words}" for s, words in wrong.items() if int(s) in seeds)
            print(
                f"[{done}/{len(jobs)}] from {seeds[0]}: {found['process_seconds']:.0f} s; "
                f"in all {sums['passed']:,} passed, {len(wrong)} failed{last}",
                flush=True,
            )

    with ThreadPoolExecutor(asked.jobs) as pool:
        list(pool.map(work, jobs))


def missing(hundred: int, record: Record | None) -> list[int]:
    """The networks of a hundred that have no good record."""
    if record is None:
        return list(range(hundred * HUNDRED, (hundred + 1) * HUNDRED))
    return sorted(map(int, record["failures"]))


def apart(seeds: list[int], asked: argparse.Namespace) -> Record:
    """Some networks in a process of their own, with one thread; a process that dies fails all of them."""
    own = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    worker = ROOT / "benchmarks" / "random_networks_worker.py"
    given = [f"{asked.limit:g}", ",".join(map(str, seeds))]
    found = run_apart(worker, given, 60 + asked.limit * len(seeds), BYTES, own)
    return found if found["ran"] else {**found, "failures": {str(s): found["problem"] for s in seeds}}


def merged(before: Record | None, found: Record, seeds: list[int]) -> Record:
    """A hundred's record with what came out of some of its networks."""
    record: Record = {"failures": {}, **(before or {})}
    left = {s: words for s, words in record["failures"].items() if int(s) not in seeds}
    record["failures"] = {**left, **found["failures"]}
    for name in ("passed", "judged", "cuttable", "dynamic", "groups", "blocks", "seconds"):
        record[name] = record.get(name, 0) + found.get(name, 0)
    record["largest_error"] = max(record.get("largest_error", 0.0), found.get("largest_error", 0.0))
    return record


def conditions(asked: argparse.Namespace) -> dict[str, Any]:
    """Date, versions and machine."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {p: installed(p) for p in ("secateur", "torch")},
        "python": platform.python_version(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "jobs": asked.jobs,
        "limit_seconds": asked.limit,
    }


if __name__ == "__main__":
    raise SystemExit(main())
