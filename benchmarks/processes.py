"""One benchmark job in a process of its own: started, watched for time and memory, and its record read back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

Record = dict[str, Any]


def run_apart(
    script: Path, arguments: Sequence[str], limit: float, memory: float, environment: Mapping[str, str]
) -> Record:
    """``python script *arguments TARGET``, where TARGET is the file that the script writes its record to.

    Returns:
        The record, or ``{"ran": False, "problem": why}``; with ``process_seconds`` and ``process_bytes``.
    """
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "record.json"
        started = time.perf_counter()
        with open(Path(folder) / "log", "w+", errors="replace") as log:
            process = subprocess.Popen(
                [sys.executable, str(script), *arguments, str(target)],
                stdout=log, stderr=log, env={**os.environ, **environment},
            )  # fmt: skip
            most, problem = watch(process, started + limit, memory)
            log.seek(0)
            words = [w for w in log.read().splitlines() if w.strip()]
        took = time.perf_counter() - started
        if target.exists() and problem is None:
            record: Record = json.loads(target.read_text())
        else:
            last = (words or ["no message"])[-1][:200]
            record = {
                "ran": False,
                "problem": problem or f"the process ended with {process.returncode}: {last}",
            }
        return {**record, "process_seconds": took, "process_bytes": most}


def watch(process: subprocess.Popen[Any], deadline: float, memory: float) -> tuple[int, str | None]:
    """Waits for a process; kills it when it takes too long or holds too much resident memory.

    An address-space limit would not do: torch reserves far more than it uses.
    """
    most, seen = 0, psutil.Process(process.pid)
    while process.poll() is None:
        try:
            family = [seen, *seen.children(recursive=True)]
            most = max(most, sum(p.memory_info().rss for p in family))
        except psutil.Error:
            pass
        problem = None
        if time.perf_counter() > deadline:
            problem = "took longer than the limit"
        elif most > memory:
            problem = f"held more than {memory / 1e9:g} GB"
        if problem:
            process.kill()
            process.wait()
            return most, problem
        time.sleep(0.05)
    return most, None


def installed(package: str) -> str | None:
    """The version of a package, or None."""
    if package == "secateur":
        import secateur

        return secateur.__version__
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def read_store(file: Path) -> dict[str, Any]:
    """A store of records; an empty one where the file is missing or is none."""
    try:
        found = json.loads(file.read_text())
        return found if isinstance(found.get("records"), dict) else {"records": {}}
    except (OSError, ValueError):
        return {"records": {}}
