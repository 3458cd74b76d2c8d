"""One benchmark job in a process of its own: started, watched for time and memory, and its record read back.

The process is a new interpreter, or, where many small jobs import the same large packages, a fork of this one.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any, Protocol

import psutil

Record = dict[str, Any]


def run_apart(
    script: Path, arguments: Sequence[str], limit: float, memory: float, environment: Mapping[str, str]
) -> Record:
    """``python script *arguments TARGET``, where TARGET is the file that the script writes its record to.

    Returns:
        The record, or ``{"ran": False, "problem": why}``; with ``process_seconds`` and ``process_bytes``.
    """

    def start(target: Path, log: IO[str]) -> Process:
        return subprocess.Popen(
            [sys.executable, str(script), *arguments, str(target)],
            stdout=log, stderr=log, env={**os.environ, **environment},
        )  # fmt: skip

    return _run(start, limit, memory)


def run_forked(work: Callable[[str], None], limit: float, memory: float) -> Record:
    """``work(TARGET)`` in a fork of this process, which has imported what it needs; otherwise as ``run_apart``."""

    def start(target: Path, log: IO[str]) -> Process:
        return _Fork(work, str(target), log.fileno())

    return _run(start, limit, memory)


class Process(Protocol):
    """What is asked of a process; ``subprocess.Popen`` is one."""

    pid: int

    def poll(self) -> int | None:
        """How it ended, or None while it runs."""

    def kill(self) -> None:
        """Ends it."""

    def wait(self) -> int:
        """Until it has ended."""


class _Fork:
    def __init__(self, work: Callable[[str], None], target: str, log: int) -> None:
        def run() -> None:
            os.dup2(log, 1)
            os.dup2(log, 2)
            work(target)

        self.process = multiprocessing.get_context("fork").Process(target=run)
        self.process.start()
        self.pid = self.process.pid or 0

    def poll(self) -> int | None:
        return self.process.exitcode

    def kill(self) -> None:
        self.process.kill()

    def wait(self) -> int:
        self.process.join()
        return self.process.exitcode or 0


def _run(start: Callable[[Path, IO[str]], Process], limit: float, memory: float) -> Record:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "record.json"
        started = time.perf_counter()
        with open(Path(folder) / "log", "w+", errors="replace") as log:
            process = start(target, log)
            most, problem = watch(process, started + limit, memory)
            log.seek(0)
            words = [w for w in log.read().splitlines() if w.strip()]
        took = time.perf_counter() - started
        if target.exists() and problem is None:
            record: Record = json.loads(target.read_text())
        else:
            last = (words or ["no message"])[-1][:200]
            record = {"ran": False, "problem": problem or f"the process ended with {process.poll()}: {last}"}
        return {**record, "process_seconds": took, "process_bytes": most}


def watch(process: Process, deadline: float, memory: float) -> tuple[int, str | None]:
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
