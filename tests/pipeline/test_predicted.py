"""Latency budgets on a device that tells its operators: predicted before it is cut, and measured after."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("onnxscript")

import secateur as sc
from secateur.bench import FakeDevice
from tests.latency import priced
from tests.pipeline import small


def go(out: Path, latency: str, device: FakeDevice | None = None, **options: object) -> sc.Run:
    return sc.compress(
        small.network(),
        (small.batches(), small.batches(4, seed=2)),
        recipe=small.recipe(sc.Budget(latency=latency), target="onnxruntime:fp32", **options),
        out=out,
        device=device or priced.device(),
        quiet=True,
    )


def lines(out: Path, name: str) -> list[dict]:  # type: ignore[type-arg]
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> sc.Run:
    return go(tmp_path_factory.mktemp("half") / "run", "0.5x")


def test_the_budget_is_met_and_not_undercut(half: sc.Run) -> None:
    (row,) = half.record["budgets"]
    assert half.verdict == "met" and 0.9 * 0.5 <= row["achieved"] / row["dense"] <= 0.5


def test_predictions_stand_beside_measurements(half: sc.Run) -> None:
    told = [m for m in lines(half.folder, "measurements.jsonl") if m["predicted_ms"] is not None]
    assert {m["phase"].split()[0] for m in told} >= {"probe", "final"}
    assert all(m["predicted_ms"] == pytest.approx(m["median_ms"], rel=0.05) for m in told)
    rounds = [r for r in lines(half.folder, "history.jsonl") if r["round"]]
    assert all(r["predicted_latency_ms"] > 0 for r in rounds)
    assert all(
        m["predicted_ms"] is None
        for m in lines(half.folder, "measurements.jsonl")
        if "dense" in m["artifact"]
    )


def test_what_it_takes_is_said_before_training(half: sc.Run) -> None:
    """Rounds and epochs are those that were then run; suitability and the untrained metric stand beside them."""
    analysis = json.loads((half.folder / "analysis.json").read_text())
    found, history = analysis["forecast"], lines(half.folder, "history.jsonl")
    assert found["rounds"] == len(history) - 1 and found["epochs"] == found["rounds"] and found["hours"] > 0
    assert 0 <= found["metric_untrained"] <= 1
    steps = [json.loads(line)["step"] for line in (half.folder / "journal.jsonl").read_text().splitlines()]
    assert steps.index("forecast") < steps.index("round 1")
    (dtype,) = analysis["suitability"]["dtypes"]
    assert dtype["dtype"] == "fp32" and dtype["ratio"] == 1.0 and 0 < dtype["least"] < dtype["half"] < 1


def test_few_candidates_are_measured_where_predictions_are_right(half: sc.Run) -> None:
    probes = {m["phase"] for m in lines(half.folder, "measurements.jsonl") if m["phase"].startswith("probe")}
    assert len(probes) <= 3


def test_a_finished_run_measures_nothing_again(half: sc.Run) -> None:
    again = priced.device()
    assert go(half.folder, "0.5x", again).record == half.record
    assert again.opened == 0


def test_latency_alone_is_driven_down_while_the_quality_lasts(tmp_path: Path) -> None:
    run = sc.compress(
        small.network(),
        (small.batches(), small.batches(4, seed=2)),
        recipe=small.recipe(sc.Budget(drop=40.0), target="onnxruntime:fp32", minimise="latency"),
        out=tmp_path / "run",
        device=priced.device(),
        quiet=True,
    )
    predicted = [r["predicted_latency_ms"] for r in lines(run.folder, "history.jsonl") if r["round"]]
    assert predicted == sorted(predicted, reverse=True) and len(predicted) > 1


def test_what_no_cut_can_reach_is_infeasible(tmp_path: Path) -> None:
    with pytest.raises(sc.Infeasible, match=r"latency=0\.02x cannot be met"):
        go(tmp_path / "run", "0.02x")
