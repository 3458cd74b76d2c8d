"""Every model of the coverage benchmark in its owner's own class, at a uniform share and at free ones.

    python benchmarks/coverage_forms.py [SOURCE ...] [--only REGEX] [--every N] [--failed] [--anew]

SOURCE is ``timm``, ``torchvision`` or ``hf``; all by default. Writes ``benchmarks/results/forms-SOURCE.json`` after
every model and the tables of ``docs/forms.md`` at the end; run again, it does what has no record yet (``--failed``:
also what did not come back in its own class; ``--anew``: all). ``--every 6`` takes a sample, ``--page`` only writes
the page.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]

from cifar_page import update, write_text  # noqa: E402
from coverage import BYTES, RESULTS, SECONDS, SOURCES, conditions, names  # noqa: E402
from coverage_page import header  # noqa: E402
from forms_page import WAYS, came_back, detail, overview, section, wrong  # noqa: E402
from measured import portable  # noqa: E402
from processes import Record, read_store, run_apart, run_forked  # noqa: E402

PAGE = ROOT / "docs" / "forms.md"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sources", nargs="*", metavar="SOURCE", help=f"{', '.join(SOURCES)}; default all")
    parser.add_argument("--only", metavar="REGEX", help="models whose name it matches somewhere")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only each N-th model of the list")
    parser.add_argument("--failed", action="store_true", help="also models that did not come back both ways")
    parser.add_argument("--anew", action="store_true", help="also models that have a record")
    parser.add_argument("--fork", action="store_true", help="import once and fork for each model")
    parser.add_argument("--page", action="store_true", help="run nothing, write the page")
    parser.add_argument("--limit", type=float, default=SECONDS, help="seconds for each process, all included")
    parser.add_argument("--memory", type=float, default=BYTES, help="bytes for each process")
    asked = parser.parse_args()
    asked.jobs = 1
    if unknown := set(asked.sources) - set(SOURCES):
        parser.error(f"no source is called {', '.join(sorted(unknown))}; there are {', '.join(SOURCES)}")
    return asked


def main() -> int:
    """Runs what is asked for, then writes the page."""
    asked = arguments()
    for source in () if asked.page else asked.sources or SOURCES:
        run(source, asked)
    sections: dict[str, str] = {}
    everything: list[Record] = []
    for source in SOURCES:
        store = read_store(results(source))
        records = [r for name in names(source) if (r := store["records"].get(name))]
        if records:
            everything += records
            sections[f"forms {source}"] = section(source, records, header(store["conditions"], records))
    update(PAGE, {"forms": overview(everything), **sections})
    print(f"{PAGE} is written")
    return 0


def run(source: str, asked: argparse.Namespace) -> None:
    """The models of one source that are asked for."""
    file = results(source)
    records: dict[str, Record] = read_store(file)["records"]
    wanted = [n for n in names(source)[:: asked.every] if not asked.only or re.search(asked.only, n)]
    jobs = [n for n in wanted if asked.anew or _open(records.get(n), asked.failed)]
    print(f"{source}: {len(wanted)} models, {len(jobs)} to do", flush=True)
    own = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
    worker = ROOT / "benchmarks" / "coverage_forms_worker.py"
    for done, name in enumerate(jobs, 1):
        if asked.fork:
            os.environ |= own  # before torch is imported
            importlib.import_module("coverage_worker").warm(source)
            measure = importlib.import_module("coverage_forms_worker").main
            record = run_forked(partial(measure, source, name), asked.limit, asked.memory)
        else:
            record = run_apart(worker, [source, name], asked.limit, asked.memory, own)
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        record = portable({"source": source, "model": name, "date": today, **record})
        latest: dict[str, Any] = read_store(file)  # another run may have written meanwhile
        latest["records"][name] = record
        latest["conditions"] = conditions(asked)
        RESULTS.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(latest, indent=1, sort_keys=True) + "\n")
        print(f"[{done}/{len(jobs)}] {source} {name}: {line(record)}", flush=True)


def line(record: Record) -> str:
    """What the terminal shows of one record."""
    if not record["ran"]:
        return f"FAILED, {record['problem']}"
    return "; ".join(f"{way}{' WRONG' if wrong(record[way]) else ''} {detail(record[way])}" for way in WAYS)


def results(source: str) -> Path:
    """Where the records of a source are kept."""
    return RESULTS / f"forms-{source}.json"


def _open(record: Record | None, failed: bool) -> bool:
    if record is None or not failed:
        return record is None
    return not (record["ran"] and all(came_back(record[way]) for way in WAYS)) and not record.get("refused")


if __name__ == "__main__":
    raise SystemExit(main())
