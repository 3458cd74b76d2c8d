"""``criterion: auto``: ranked at the cost asked, the same every time, the simplest where none can be told apart."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import secateur as sc
from secateur.data import Evaluation
from secateur.errors import RecipeError
from secateur.pipeline import job as jobs
from secateur.pipeline import ranking, rounds
from secateur.pipeline.criteria import CONTROL, MAKERS, RANKED
from secateur.pipeline.ranking import loss_difference
from secateur.recipe import CRITERIA, CriterionOptions
from tests.pipeline import small

AUTO = CriterionOptions("auto")


def trained() -> small.Small:
    """The small network, trained enough that criteria differ."""
    model = small.network()
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for images, target in small.batches(24) * 2:
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(images), target).backward()
        optimiser.step()
    return model.eval()


def go(out: Path, budget: sc.Budget | None = None, **options: Any) -> sc.Run:
    data = (small.batches(12), small.batches(4, seed=2))
    recipe = small.recipe(budget or sc.Budget(macs="0.4x"), criterion=AUTO, held_out=0.3, **options)
    return sc.compress(trained(), data, recipe=recipe, out=out, device=small.device(), quiet=True)


def table(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "analysis.json").read_text())["criterion"]
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> sc.Run:
    return go(tmp_path_factory.mktemp("auto") / "run")


def test_every_criterion_is_tried_at_the_cost_that_was_asked(run: sc.Run) -> None:
    found = table(run.folder)
    rows = found["ranking"]
    assert [row["options"]["name"] for row in rows] == ["magnitude", "magnitude", "taylor", "obs", "random"]
    assert found["asked"] == "auto" and found["shares"] == {"macs": 0.4}
    before = json.loads((run.folder / "history.jsonl").read_text().splitlines()[0])["macs"]
    assert all(0.37 * before <= row["macs"] <= 0.4 * before for row in rows)
    assert sorted(row["place"] for row in rows) == [1, 2, 3, 4, 5]
    losses = [row["loss"] for row in sorted(rows, key=lambda row: row["place"])]
    assert losses == sorted(losses)
    assert all(row["interval"][0] <= row["loss_above_best"] <= row["interval"][1] for row in rows)


def test_what_won_is_used_and_said(run: sc.Run) -> None:
    found = table(run.folder)
    used = next(row for row in found["ranking"] if row["criterion"] == found["used"])
    own = [row for row in found["ranking"] if not row["control"]]
    best = min(own, key=lambda row: row["loss"])
    assert not used["control"] and (used is best or used["within_noise"])
    rounds = [json.loads(text) for text in (run.folder / "history.jsonl").read_text().splitlines()]
    assert {r["criterion"] for r in rounds} == {None, found["used"]}
    page = (run.folder / "report.html").read_text()
    assert "Which criterion" in page and "control" in page and found["used"].split("(")[0] in page
    assert json.loads((run.folder / "journal.jsonl").read_text().splitlines()[1])["step"] == "criterion"


def test_it_decides_the_same_every_time(run: sc.Run, tmp_path: Path) -> None:
    again = go(tmp_path / "run")
    assert table(again.folder) == table(run.folder)
    assert sc.Plan.load(again.folder / "plan.json") == sc.Plan.load(run.folder / "plan.json")


def test_a_run_that_goes_on_ranks_nothing_again(run: sc.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "scored", lambda *given: pytest.fail("ranked before"))
    assert go(run.folder).record == run.record


def test_the_plan_is_that_of_a_run_which_names_the_criterion(run: sc.Run, tmp_path: Path) -> None:
    options = CriterionOptions(**table(run.folder)["chosen"])
    data = (small.batches(12), small.batches(4, seed=2))
    recipe = replace(small.recipe(sc.Budget(macs="0.4x"), held_out=0.3), criterion=options)
    named = sc.compress(
        trained(), data, recipe=recipe, out=tmp_path / "run", device=small.device(), quiet=True
    )
    assert sc.Plan.load(named.folder / "plan.json") == sc.Plan.load(run.folder / "plan.json")
    assert table(named.folder) is None


def test_with_a_quality_budget_alone_half_of_the_cost_is_tried(tmp_path: Path) -> None:
    run = go(tmp_path / "run", sc.Budget(drop=60.0), minimise="params")
    assert table(run.folder)["shares"] == {"params": 0.5}


def test_a_budget_that_cannot_be_met_is_still_infeasible(tmp_path: Path) -> None:
    with pytest.raises(sc.Infeasible):
        go(tmp_path / "counts", sc.Budget(macs="0.0001x"))
    with pytest.raises(sc.Infeasible, match="smallest model"):
        go(tmp_path / "size", sc.Budget(size="0.01x"))
    assert len(table(tmp_path / "size")["ranking"]) == len(RANKED)


def evaluation(losses: list[float]) -> Evaluation:
    """Samples whose loss is their output."""
    outputs = torch.tensor(losses)
    return Evaluation(0.0, float(outputs.mean()), outputs, torch.zeros(len(losses)), len(losses))


TASK = sc.Task(loss=lambda outputs, targets: outputs.mean(), metric=lambda outputs, targets: 0.0)


def test_differences_are_paired() -> None:
    """The same small gap in every sample is far above noise, however much the samples differ."""
    noise = torch.rand(64, generator=torch.Generator().manual_seed(0)) * 10
    first, second = evaluation(noise.tolist()), evaluation((noise + 0.1).tolist())
    found = loss_difference(first, second, TASK, seed=0)
    assert found.delta == pytest.approx(0.1, abs=1e-5) and found.interval[0] > 0.09
    shuffled = evaluation((noise.flip(0) + 0.1).tolist())
    assert loss_difference(first, shuffled, TASK, seed=0).interval[0] < 0


@pytest.mark.parametrize(
    ("losses", "used", "words"),
    [
        # magnitude 2, magnitude 1, taylor, random: the simplest first
        ([2.0, 1.8, 1.0, 3.0], 2, "taylor has the lowest loss"),
        ([1.0, 2.0, 1.4, 3.0], 0, "magnitude has the lowest loss"),
        ([2.0, 1.001, 1.0, 3.0], 1, "magnitude1 is used.*cannot be told.*simpler"),
        ([1.0, 1.001, 3.0, 2.0], 0, "others cannot be told from it"),
        ([2.0, 2.0, 1.0, 1.001], 2, "random units do as well"),
        ([2.0, 2.0, 1.0, 0.5], 2, "random units do as well"),
    ],
)
def test_the_simplest_of_those_that_cannot_be_told_apart(losses: list[float], used: int, words: str) -> None:
    noise = 0.01 * torch.randn(4, 100, generator=torch.Generator().manual_seed(1))
    noise -= noise.mean(dim=1, keepdim=True)
    tried = [evaluation((loss + own).tolist()) for loss, own in zip(losses, noise, strict=True)]
    names = ["magnitude", "magnitude1", "taylor", "random"]
    rows: list[dict[str, Any]] = [
        {"criterion": name, "control": name == CONTROL, "loss": e.loss}
        for name, e in zip(names, tried, strict=True)
    ]
    job: Any = SimpleNamespace(task=TASK, recipe=SimpleNamespace(seed=0))
    got, said = ranking._chosen(job, rows, tried)
    assert got == used and re.search(words, said)


def test_what_is_ranked_can_be_named_in_a_recipe() -> None:
    assert {str(row["name"]) for row in RANKED} <= set(MAKERS) == set(CRITERIA) - {"auto"}


def test_a_plan_leaves_nothing_to_rank() -> None:
    with pytest.raises(RecipeError, match="nothing to rank"):
        small.recipe(sc.Budget(macs="0.5x"), plan="plan.json", criterion=AUTO)


def test_scores_do_not_depend_on_what_was_read_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loader that shuffles: a run that is stopped after its first round scores as an undisturbed one does."""
    images, targets = (torch.cat(part) for part in zip(*small.batches(12), strict=True))
    recipe = small.recipe(sc.Budget(macs="0.5x"), criterion=CriterionOptions("taylor", batches=1))
    one_round, score = rounds.one_round, jobs.score

    def run(out: str, stop: int | None = None) -> list[sc.Scores]:
        loader = DataLoader(TensorDataset(images, targets), batch_size=16, shuffle=True)
        found: list[sc.Scores] = []

        def stopped(job: Any, dense: Any, state: Any, step: Any) -> Any:
            if state.number == stop:
                raise KeyboardInterrupt
            return one_round(job, dense, state, step)

        monkeypatch.setattr(rounds, "one_round", stopped)
        monkeypatch.setattr(jobs, "score", lambda *given: found.append(score(*given)) or found[-1])
        sc.compress(
            small.network(), (loader, small.batches(4, seed=2)), recipe=recipe, out=tmp_path / out,
            device=small.device(), quiet=True,
        )  # fmt: skip
        return found

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("stopped", stop=1)
    rest = run("stopped")
    assert len(whole) == len(rest) + 1 > 2
    for ours, theirs in zip(rest, whole[1:], strict=True):
        assert all((ours.values[name] == theirs.values[name]).all() for name in ours.values)
