"""Dense models in every runtime and dtype, side by side: which is fastest, and where INT8 pays.

    python benchmarks/runtimes.py [--only NAME ...] [--core N] [--seconds S]

For each model: exported for ONNX Runtime and OpenVINO in fp32 and INT8, then all four timed in turn, batch 1, one
thread. Weights and inputs are random, since times depend on shapes alone. Writes ``benchmarks/results/runtimes.json``
after each model and the table in ``docs/runtimes.md`` at the end; run again, it does what is missing.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
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
from latency_models import MODELS, build  # noqa: E402
from processes import installed, read_store  # noqa: E402

from secateur.bench import Effort, Entry, measure, processor_name  # noqa: E402
from secateur.deploy import format_for  # noqa: E402

COLUMNS = [(runtime, dtype) for runtime in ("onnxruntime", "openvino") for dtype in ("fp32", "int8")]
TITLES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=MODELS, default=list(MODELS), metavar="NAME")
    parser.add_argument("--core", type=int, help="bind the timed processes to this core")
    parser.add_argument("--seconds", type=float, default=20.0, help="of timing for each model, at most")
    parser.add_argument("--anew", action="store_true", help="also what has a record")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "runtimes.md")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    return parser.parse_args()


def main() -> int:
    """Measures what has no record yet, then writes the page."""
    asked = arguments()
    torch.set_num_threads(1)
    file = asked.results / "runtimes.json"
    store: dict[str, Any] = {"records": {}} if asked.anew else read_store(file)
    store["conditions"] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {p: installed(p) for p in ("secateur", "torch", "onnxruntime", "openvino", "nncf")},
        "processor": processor_name(),
        "cores": os.cpu_count(),
    }
    for name in asked.only:
        if name not in store["records"]:
            store["records"][name] = measured(name, asked)
            write_text(file, json.dumps(store, indent=1) + "\n")
        print(name, {k: round(v["ratio"], 3) for k, v in store["records"][name].items()}, flush=True)
    update(asked.page, {"runtimes": page(store["records"], store["conditions"])})
    print(f"{asked.page} and {file} are written")
    return 0


def measured(name: str, asked: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of a model in each runtime and dtype, and the ratio to ONNX Runtime in fp32 with its interval."""
    model, sample = build(name)
    with tempfile.TemporaryDirectory() as folder:
        entries = []
        for runtime, dtype in COLUMNS:
            exporter = format_for(runtime, dtype)
            path = exporter.write(model, sample, Path(folder) / exporter.filename, [sample])
            entries.append(Entry(f"{runtime} {dtype}", path, runtime, dtype))
        with on_core(asked.core):
            found = measure(entries, sample, threads=1, effort=Effort(width=0.02, seconds=asked.seconds))
    return {
        m.artifact: {
            "ms": m.median_ms,
            "ratio": 1.0 if m.ratio is None else m.ratio,
            "interval": m.ratio_interval,
            "loaded": m.loaded,
        }
        for m in found
    }


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Processes started within run on this core."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def page(records: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """The part of the page that is written by the benchmark."""
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    heads = [f"{TITLES[runtime]} {dtype}" for runtime, dtype in COLUMNS]
    lines = [
        f"Measured {about['date']} on {about['cores']} cores ({about['processor']}), 1 thread, batch 1; {versions}. "
        "Latency as a ratio to ONNX Runtime in fp32, all four measured in turn, with the 95 % interval; the fastest in "
        "bold. The milliseconds are those of ONNX Runtime in fp32.",
        "",
        f"| model | ms | {' | '.join(heads)} |",
        "|---" * (2 + len(heads)) + "|",
    ]
    for name, record in records.items():
        best = min(record.values(), key=lambda r: r["ratio"])
        cells = [_cell(record[f"{runtime} {dtype}"], best) for runtime, dtype in COLUMNS]
        lines.append(f"| {name} | {record['onnxruntime fp32']['ms']:.1f} | {' | '.join(cells)} |")
    if any(r["loaded"] for record in records.values() for r in record.values()):
        lines += ["", "Other work ran on the machine meanwhile."]
    return "\n".join(lines)


def _cell(record: Mapping[str, Any], best: Mapping[str, Any]) -> str:
    ratio = f"**{record['ratio']:.2f}**" if record is best else f"{record['ratio']:.2f}"
    return ratio if record["interval"] is None else "{} ({:.2f} to {:.2f})".format(ratio, *record["interval"])


if __name__ == "__main__":
    raise SystemExit(main())
