"""What the benchmarks on latency have in common on the command line, and under which conditions they ran."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from processes import installed

ROOT = Path(__file__).resolve().parents[1]
DTYPES = ("fp32", "int8")


def options(
    doc: str | None, models: Sequence[str] = (), dtypes: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """A parser with the options of all of them; a choice of models and of dtypes where there are any."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    if models:
        parser.add_argument("--only", nargs="+", choices=models, default=list(models), metavar="NAME")
    if dtypes:
        parser.add_argument("--dtypes", nargs="+", default=list(dtypes))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--anew", action="store_true", help="also what has a record")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "latency.md")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    return parser


def conditions(asked: argparse.Namespace, *more: str) -> dict[str, Any]:
    """Date, versions, machine and threads, with further options by name."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {p: installed(p) for p in ("secateur", "torch", "onnxruntime")},
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": asked.threads,
        **{name: getattr(asked, name) for name in more},
    }
