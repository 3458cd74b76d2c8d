"""A run survives being killed at any moment: what it decides is what an undisturbed run decides."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def run(out: Path, where: str = "never", count: int = 0, *more: str) -> int:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), *sys.path])}
    command = [sys.executable, str(HERE / "killed_run.py"), str(out), where, str(count), *more]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def content(out: Path) -> dict[str, object]:
    verdict = json.loads((out / "verdict.json").read_text())
    history = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    for record in history:
        del record["seconds"]
    return {
        "plan": json.loads((out / "plan.json").read_text()),
        "verdict": verdict["verdict"],
        "budgets": verdict["budgets"],
        "metric": verdict["metric"],
        "classes": verdict["classes"],
        "history": history,
        "weights": (out / "model.safetensors").read_bytes(),
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "undisturbed"
    assert run(out) == 0
    return out


@pytest.fixture(scope="module")
def undisturbed(finished: Path) -> dict[str, object]:
    found = content(finished)
    assert found["verdict"] == "met"
    assert len(found["history"]) > 4  # type: ignore[arg-type]
    return found


def test_kill_in_each_round_then_resume(undisturbed: dict[str, object], tmp_path: Path) -> None:
    """Killed in the middle of training in one round after the other, the run goes on each time."""
    out = tmp_path / "run"
    kills = 0
    for count in (5, 17, 20):
        kills += run(out, "loss", count) == -signal.SIGKILL
    assert kills == 3
    run(out)
    assert content(out) == undisturbed


def test_a_finished_run_replays_its_record(undisturbed: dict[str, object], finished: Path) -> None:
    before = (finished / "journal.jsonl").read_bytes()
    assert run(finished) == 0
    assert (finished / "journal.jsonl").read_bytes() == before
    assert content(finished) == undisturbed


def test_kill_between_work_and_its_record(undisturbed: dict[str, object], tmp_path: Path) -> None:
    """Killed when a step is done and not yet recorded, the step is done again, with the same outcome."""
    out = tmp_path / "run"
    for count in (2, 3):
        assert run(out, "journal", count) == -signal.SIGKILL
    run(out)
    assert content(out) == undisturbed


def test_a_latency_budget_replays_its_measurements(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run(out, "loss", 10, "measured") == -signal.SIGKILL
    journal = (out / "journal.jsonl").read_text()
    measured = [json.loads(line)["outcome"]["timings"] for line in journal.splitlines()]
    assert len(measured) >= 2  # the dense model and at least one candidate
    assert run(out, "never", 0, "measured") == 0
    assert (out / "journal.jsonl").read_text().startswith(journal)
    kept = [json.loads(line) for line in (out / "measurements.jsonl").read_text().splitlines()]
    assert all(timing in kept for timings in measured for timing in timings)
