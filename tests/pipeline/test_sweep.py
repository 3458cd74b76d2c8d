"""A family of plans from one analysis: solved many times, scored once, resumed, and honest about what cannot be had."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

pytest.importorskip("onnxscript")

import secateur as sc
from secateur.bench import FakeDevice
from secateur.errors import CorruptFile, InputError, RecipeError, RunFolderError, UnknownName
from secateur.pipeline import job
from secateur.pipeline.family.asked import Asked
from secateur.pipeline.family.front import dominators, spread
from secateur.recipe import CriterionOptions, MeasureOptions
from secateur.scoring import Run
from tests.latency import priced
from tests.pipeline import small
from tests.pipeline.test_depth import Residual

PATIENT = MeasureOptions(
    seconds=2.0, rounds=False
)  # enough for every network of a fit, so that fits are the same
BUDGETS = ("0.8x", "0.5x", "0.02x")


def go(out: Path, device: FakeDevice | None = None, **options: Any) -> sc.Sweep:
    defaults: dict[str, Any] = {
        "data": (small.batches(), small.batches(4, seed=2)),
        "budgets": BUDGETS,
        "recipe": small.recipe(sc.Budget(latency="0.5x"), target="onnxruntime:fp32", measure=PATIENT),
        "quiet": True,
    }
    return sc.sweep(small.network(), out=out, device=device or priced.device(), **{**defaults, **options})


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names the criteria that weigh anything meanwhile, for the plans of a run."""
    seen: list[str] = []
    weigh = sc.Taylor.weigh

    def noted(self: sc.Taylor, tensors: Mapping[str, Tensor], run: Run) -> Mapping[str, np.ndarray]:
        seen.append(str(self))
        return weigh(self, tensors, run)

    with monkeypatch.context() as patch:
        patch.setattr(sc.Taylor, "weigh", noted)
        yield seen


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> sc.Sweep:
    return go(tmp_path_factory.mktemp("family") / "sweep")


def test_every_budget_has_its_row(family: sc.Sweep) -> None:
    wide, half, none = family.points
    assert [p.asked for p in family.points] == list(BUDGETS)
    assert wide.params > half.params and wide.kept > half.kept  # type: ignore[operator]
    for point, share in ((wide, 0.8), (half, 0.5)):
        # A step of this small network's widths is a tenth of its latency.
        assert share - 0.1 <= point.predicted_ratio <= share  # type: ignore[operator]
        assert point.metric is not None and point.loss is not None
    assert not none.feasible and none.params is None and "0.02" not in str(none.reason)
    assert "cannot be met" in str(none.reason) and "of the dense latency" in str(none.reason)
    with pytest.raises(sc.Infeasible, match="cannot be met"):
        family.plan("0.02x")
    with pytest.raises(UnknownName, match=r"there are 0\.8x"):
        family.plan("0.6x")


def test_plans_replay_on_the_model(family: sc.Sweep) -> None:
    model = small.network()
    for point in family.points[:2]:
        cut = sc.cut(model, family.plan(point.asked), small.batches(1)[0][0])
        assert sum(p.numel() for p in cut.parameters()) == point.params
    assert sc.Plan.load(family.folder / "plans" / "0.5x.json") == family.plan("0.5x")


def test_what_was_measured_stands_beside_what_was_predicted(family: sc.Sweep) -> None:
    for point in family.points[:2]:
        assert point.measured is not None
        assert point.measured.ratio == pytest.approx(point.predicted_ratio, rel=0.05)
        assert (family.folder / point.measured.artifact).stat().st_size == point.measured.size_bytes
        assert point.measured.metric == pytest.approx(point.metric, abs=1e-6)
    lines = (family.folder / "measurements.jsonl").read_text().splitlines()
    assert {json.loads(text)["phase"] for text in lines} == {"dense", "sweep 0.8x", "sweep 0.5x"}


def test_records_and_the_page(family: sc.Sweep) -> None:
    record = json.loads((family.folder / "sweep.json").read_text())
    assert record == family.record
    assert [p["feasible"] for p in record["points"]] == [True, True, False]
    assert record["front"] == {"cost": "predicted_ratio", "quality": "metric"}
    page = (family.folder / "sweep.html").read_text()
    assert "cannot be met" in page and "before any recovery" in page and "<svg" in page
    assert not any(far in page for far in ("http://", "https://", "<script", "@import"))


def test_solving_again_does_not_score_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five budgets, then two more on the same folder: one scoring, one fit, one measurement of the dense model."""
    device = priced.device()
    with counted(monkeypatch) as seen:
        first = go(tmp_path / "s", device, budgets=("0.9x", "0.8x", "0.7x", "0.6x", "0.5x"), measure=0)
        assert len(seen) == 1 and all(p.feasible for p in first.points)
        opened = device.opened
        more = go(tmp_path / "s", device, budgets=("0.75x", "0.5x"), measure=0)
        assert len(seen) == 1 and device.opened == opened
    assert more.plan("0.5x") == first.plan("0.5x")
    assert more.points[0].kept > more.points[1].kept  # type: ignore[operator]


def test_blocks_may_go_whole_and_each_choice_of_them_is_scored_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*budgets: str) -> sc.Sweep:
        recipe = small.recipe(sc.Budget(latency="0.5x"), target="onnxruntime:fp32", measure=PATIENT)
        data = (small.batches(), small.batches(4, seed=2))
        return sc.sweep(
            Residual(idle=(1, 2)), data, budgets=budgets, recipe=recipe, measure=0, out=tmp_path / "s",
            device=priced.device(), quiet=True,
        )  # fmt: skip

    with counted(monkeypatch) as seen:
        first = asked("0.6x")
        tried = len(seen)
        more = asked("0.6x", "0.55x")
    assert first.points[0].removed and first.points[0].removed == first.plan("0.6x").removed
    assert more.points[0] == first.points[0] or more.points[0].dominated_by == "0.55x"
    assert len(list((tmp_path / "s" / "scores").iterdir())) == len(seen) and tried > 1
    gone = len(more.points[0].removed)
    assert f"without {gone} block" in (tmp_path / "s" / "sweep.html").read_text()


def test_a_finished_sweep_measures_and_solves_nothing_again(
    family: sc.Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, journal = priced.device(), (family.folder / "journal.jsonl").read_bytes()
    with counted(monkeypatch) as seen:
        again = go(family.folder, device)
    assert again.record == family.record and device.opened == 0 and seen == []
    assert (family.folder / "journal.jsonl").read_bytes() == journal


def test_stopped_in_the_middle_it_goes_on(
    family: sc.Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from secateur.pipeline.family import flow

    real = flow.measured

    def stop(*given: Any) -> dict[str, Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(flow, "measured", stop)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "s")
    monkeypatch.setattr(flow, "measured", real)
    with counted(monkeypatch) as seen:
        assert go(tmp_path / "s").record == family.record
    assert seen == []
    (tmp_path / "s" / "plans" / "0.5x.json").unlink()
    assert go(tmp_path / "s").plan("0.5x") == family.plan("0.5x")


def test_without_data_the_saliency_that_stays_tells(tmp_path: Path) -> None:
    found = go(tmp_path / "s", data=None, example_inputs=small.batches(1)[0][0], kind="params", measure=1)
    wide, half, _ = found.points
    assert found.record["metric"] is None and found.record["front"]["quality"] == "kept"
    assert "Magnitude" in found.record["criterion"]
    assert wide.metric is None and 0.97 * 0.8 <= wide.params / found.record["dense"]["params"] <= 0.8
    assert half.on_front and 0 < half.kept < wide.kept < 1
    assert [p.measured is not None for p in (wide, half)].count(True) == 1
    assert "Saliency kept" in (found.folder / "sweep.html").read_text()
    with pytest.raises(InputError, match="example_inputs"):
        go(tmp_path / "t", data=None)
    assert not (tmp_path / "t").exists()


def test_without_predictions_all_that_is_measured_is_compared(tmp_path: Path) -> None:
    """A runtime that does not tell its operators: multiply-adds are solved for, and measurements compared."""
    recipe = small.recipe(sc.Budget(latency="0.5x"))
    found = go(tmp_path / "s", small.device(), recipe=recipe, budgets=("0.7x", "0.4x"), measure=None)
    assert found.record["prediction"] is None and found.record["front"]["cost"] == "measured_ratio"
    assert all(p.predicted_ratio is None and p.measured is not None for p in found.points)
    assert go(tmp_path / "t", small.device(), recipe=recipe, measure=0).record["front"]["cost"] == "macs"


def test_budgets_are_spread_over_what_can_be_had(tmp_path: Path) -> None:
    found = go(tmp_path / "s", kind="macs", budgets=5, measure=0)
    shares = [p.share for p in found.points]
    assert len(shares) == 5 and shares[0] == 0.9 and 0.1 <= shares[-1] < 0.2
    steps = np.log(shares[:-1]) - np.log(shares[1:])
    assert steps.std() < 0.03 * steps.mean() and all(p.feasible for p in found.points)


def test_the_same_plan_is_told_once(tmp_path: Path) -> None:
    found = go(tmp_path / "s", kind="params", budgets=("0.5x", "0.4999x"), measure=None)
    assert found.points[1].same_as == "0.5x" and found.points[1].measured is None
    assert [p.on_front for p in found.points] == [True, False]


def test_a_folder_is_for_one_sweep(family: sc.Sweep, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="belongs to another sweep"):
        go(family.folder, kind="params")
    with pytest.raises(RunFolderError, match="belongs to another recipe"):
        sc.compress(
            small.network(), (small.batches(), small.batches(4, seed=2)), out=family.folder, quiet=True,
            recipe=small.recipe(sc.Budget(macs="0.5x")), device=small.device(),
        )  # fmt: skip
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="holds no run"):
        go(tmp_path)


def test_a_run_goes_on_from_a_plan(family: sc.Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan is carried out as it is, without scoring, recovered, and judged by the budget it was made for."""
    file = family.folder / "plans" / "0.5x.json"

    def run(budget: sc.Budget, out: str) -> sc.Run:
        recipe = small.recipe(budget, target="onnxruntime:fp32", measure=PATIENT, plan=str(file))
        data = (small.batches(), small.batches(4, seed=2))
        return sc.compress(
            small.network(), data, recipe=recipe, out=tmp_path / out, device=priced.device(), quiet=True
        )

    with counted(monkeypatch) as seen:
        met = run(sc.Budget(latency="0.5x"), "run")
    assert seen == [] and met.verdict == "met"
    assert sc.Plan.load(met.folder / "plan.json") == family.plan("0.5x")
    (row,) = met.record["budgets"]
    assert row["ratio"] == pytest.approx(family.points[1].predicted_ratio, rel=0.05)
    # For a smaller budget than the plan is for, a correction cuts more.
    assert run(sc.Budget(latency="0.45x"), "less").verdict == "met"
    with pytest.raises(RunFolderError, match="another"):
        sc.compress(
            small.network(), (small.batches(), small.batches(4, seed=2)), budget=sc.Budget(latency="0.5x"),
            plan=family.folder / "plans" / "0.8x.json", out=met.folder, device=priced.device(), quiet=True,
        )  # fmt: skip


def test_the_criterion_may_be_left_open(tmp_path: Path) -> None:
    recipe = small.recipe(sc.Budget(params="0.5x"), criterion=CriterionOptions("auto"))
    found = go(
        tmp_path / "s",
        small.device(),
        recipe=recipe,
        kind="params",
        budgets=("0.8x", "0.5x", "0.3x"),
        measure=0,
    )
    ranking = found.record["ranking"]
    assert ranking["shares"] == {"params": 0.5} and found.record["criterion"] == ranking["used"]
    assert "Which criterion" in (found.folder / "sweep.html").read_text()
    with pytest.raises(RecipeError, match="computed on data"):
        go(tmp_path / "t", data=None, example_inputs=small.batches(1)[0][0], recipe=recipe)


def test_damaged_scores_are_refused_by_name(tmp_path: Path) -> None:
    go(tmp_path / "s", budgets=("0.5x",), kind="params", measure=0)
    file = tmp_path / "s" / "scores" / "whole.safetensors"
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(CorruptFile, match=r"whole\.safetensors.*delete it"):
        go(tmp_path / "s", budgets=("0.4x",), kind="params", measure=0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "memory"}, "kind=memory is not one of"),
        ({"budgets": ()}, "no budget was given"),
        ({"budgets": ("half",)}, "latency=half"),
        ({"budgets": ("1.5x",)}, "more than the dense model"),
        ({"budgets": 1}, "must lie between 2 and"),
        ({"measure": -1}, "must not be negative"),
    ],
)
def test_wrong_requests_say_what_is_wrong(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        Asked(**options)


def test_each_amount_counts_once() -> None:
    assert [a.asked for a in Asked().amounts(("0.5x", "0.50x", "12ms"))] == ["0.5x", "12ms"]


@pytest.mark.parametrize(
    ("costs", "qualities", "beaten"),
    [
        ([1.0, 0.5, 0.25], [3.0, 2.0, 1.0], [None, None, None]),
        ([1.0, 0.5, 0.25], [3.0, 1.0, 2.0], [None, 2, None]),
        ([1.0, 0.5], [3.0, 3.0], [1, None]),  # as good, and cheaper
        ([0.5, 0.5], [3.0, 3.0], [None, None]),  # equal in both
        ([1.0, 0.5, 0.4], [1.0, 2.0, 3.0], [2, 2, None]),  # the best of those that beat it is named
        ([], [], []),
    ],
)
def test_the_front(costs: list[float], qualities: list[float], beaten: list[int | None]) -> None:
    assert dominators(costs, qualities) == beaten


@pytest.mark.parametrize(
    ("count", "wanted", "chosen"),
    [(8, 3, [0, 4, 7]), (2, 3, [0, 1]), (5, None, [0, 1, 2, 3, 4]), (5, 1, [2]), (5, 0, []), (0, 3, [])],
)
def test_what_is_measured_is_spread(count: int, wanted: int | None, chosen: list[int]) -> None:
    assert spread(count, wanted) == chosen


def test_runs_keep_their_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was begun and goes on does not score the dense model again."""
    from secateur.pipeline import rounds

    real, calls = job.score, []
    monkeypatch.setattr(job, "score", lambda *given: calls.append(given[2]) or real(*given))
    monkeypatch.setattr(rounds, "cut_groups", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))

    def begin() -> None:
        sc.compress(
            small.network(), (small.batches(), small.batches(4, seed=2)), out=tmp_path / "run", quiet=True,
            recipe=small.recipe(sc.Budget(macs="0.9x")), device=small.device(),
        )  # fmt: skip

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            begin()
    assert len(calls) == 1
