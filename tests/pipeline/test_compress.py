"""The whole flow on a tiny job, with a device whose times follow the file's size."""

from __future__ import annotations

import copy
import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch

import secateur as sc
from secateur.pipeline.quality import _weighted
from secateur.recipe import CriterionOptions, ScheduleOptions
from tests.pipeline import small


def go(
    out: Path,
    budget: sc.Budget,
    model: torch.nn.Module | None = None,
    task: sc.Task | None = None,
    **options: object,
) -> sc.Run:
    return sc.compress(
        model or small.network(),
        (small.batches(), small.batches(4, seed=2)),
        recipe=small.recipe(budget, **options),
        out=out,
        task=task,
        device=small.device(),
        quiet=True,
    )


def record(out: Path, name: str) -> dict:  # type: ignore[type-arg]
    return json.loads((out / name).read_text())  # type: ignore[no-any-return]


def lines(out: Path, name: str) -> list[dict]:  # type: ignore[type-arg]
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


def test_outputs_that_are_free_get_narrower(tmp_path: Path) -> None:
    """Without the classes there is nothing to lock but the input; the plan says which outputs are left."""
    run = go(
        tmp_path / "run", sc.Budget(params="0.05x"), task=small.mean_output_task(), free_outputs={"output": [1]},
        criterion=small.magnitude(), multiple=1,
    )  # fmt: skip
    kept = sc.Plan.load(run.folder / "plan.json").outputs[0][1]
    assert 0 < len(kept) < 4
    images = small.batches(1)[0][0]
    assert sc.load(run.folder)(images).shape == (len(images), len(kept))
    assert not [lock for lock in record(run.folder, "analysis.json")["locked"] if lock["kind"] == "output"]


def test_count_budget_writes_a_whole_run(tmp_path: Path) -> None:
    model = small.network()
    before = copy.deepcopy(model.state_dict())
    run = go(tmp_path / "run", sc.Budget(macs="0.4x", drop=90.0), model)
    out = run.folder
    assert run.verdict == "met" and run.exit_status == 0
    for name in (
        "recipe.yaml", "environment.json", "analysis.json", "layers.json", "plan.json", "history.jsonl", "model.json",
        "model.safetensors", "reference.safetensors", "measurements.jsonl", "verdict.json", "report.html",
    ):  # fmt: skip
        assert (out / name).stat().st_size > 0, name
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    (row,) = [b for b in record(out, "verdict.json")["budgets"] if b["kind"] == "macs"]
    assert 0.97 * 0.4 <= row["achieved"] / row["dense"] <= 0.4

    # The plan replays on the untouched model, and gives the widths of the final one.
    plan = sc.Plan.load(out / "plan.json")
    small_again = sc.cut(model, plan, small.batches(1)[0][0])
    loaded = sc.load(out)
    assert {n: p.shape for n, p in small_again.named_parameters()} == {
        n: p.shape for n, p in loaded.named_parameters()
    }
    history = lines(out, "history.jsonl")
    assert [h["round"] for h in history] == list(range(len(history)))
    cuts = [h["fraction_cut"] for h in history]
    assert cuts == sorted(cuts)
    left = [h["macs"] for h in history]
    assert all(after / before_ > 0.75 for before_, after in pairwise(left))


def test_latency_budget_is_found_by_measuring(tmp_path: Path) -> None:
    run = go(tmp_path / "run", sc.Budget(latency="0.6x", drop=90.0))
    (row,) = [b for b in run.record["budgets"] if b["kind"] == "latency"]
    assert run.verdict == "met"
    assert 0.3 < row["ratio"] <= 0.6
    names = {b["name"] for b in run.record["baselines"]}
    assert names == {"random pruning, no training", "this plan, no training"}


def test_infeasible_is_said_before_training_and_recorded(tmp_path: Path) -> None:
    with pytest.raises(sc.Infeasible, match=r"latency=0.01x cannot be met.*measures 0\.\d+x") as caught:
        go(tmp_path / "run", sc.Budget(latency="0.01x"))
    assert caught.value.nearest is not None and 0.01 < caught.value.nearest < 1
    verdict = record(tmp_path / "run", "verdict.json")
    assert verdict["verdict"] == "infeasible" and (tmp_path / "run" / "report.html").exists()
    assert not (tmp_path / "run" / "rounds").exists()


def test_infeasible_count_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(
        sc.Infeasible,
        match=r"params=0.0001x cannot be met.*nearest possible is params=0\.\d+x.*not trained, the model has acc",
    ):
        go(tmp_path / "run", sc.Budget(params="0.0001x"))


def test_missed_quality_is_exit_three(tmp_path: Path) -> None:
    model = small.network()
    trained = _trained(model)
    run = go(
        tmp_path / "run",
        sc.Budget(params="0.2x", drop=0.0),
        trained,
        criterion=CriterionOptions("random"),
        schedule=ScheduleOptions(rounds=1),
        recovery=small.RecoveryOptions(reconstruct=0, epochs=0, final_epochs=0),
    )
    assert run.verdict == "missed" and run.exit_status == 3
    assert "points are lost" in run.record["reasons"][0] and "missed" in run.headline


def test_quality_alone_minimises(tmp_path: Path) -> None:
    run = go(tmp_path / "run", sc.Budget(drop=5.0), _trained(small.network()), minimise="macs")
    history = lines(tmp_path / "run", "history.jsonl")
    kept = [r for r in history if not r["given_up"]]
    assert kept[-1]["fraction_cut"] > 0.2
    assert all(r["lost"]["drop"] <= 5.0 for r in kept[1:])
    broken = [r for r in history if r["given_up"]]
    assert all(r["lost"]["drop"] > 5.0 for r in broken)
    assert len({(r["params"], r["macs"]) for r in history}) == len(history)  # nothing was tried twice
    assert run.record["budgets"][0]["kind"] == "drop"


def test_the_cost_budget_gives_way_to_quality_and_that_is_said(tmp_path: Path) -> None:
    """Half of the weights at once cannot keep the metric untrained: some share in between can."""
    run = go(
        tmp_path / "run",
        sc.Budget(params="0.2x", drop=4.0),
        _trained(small.network()),
        schedule=ScheduleOptions(rounds=1),
        recovery=small.RecoveryOptions(reconstruct=0, epochs=0, final_epochs=0),
    )
    assert run.verdict == "missed"
    assert any("params=0.2x was given up to keep the quality" in r for r in run.record["reasons"])
    history = lines(tmp_path / "run", "history.jsonl")
    assert [r["given_up"] for r in history[:2]] == [False, True]
    kept = [r for r in history[1:] if not r["given_up"]]
    assert kept and all(r["lost"]["drop"] <= 4.0 for r in kept)
    assert kept[-1]["params"] > 0.2 * history[0]["params"]


def test_the_worst_class_stops_the_schedule_too(tmp_path: Path) -> None:
    run = go(tmp_path / "run", sc.Budget(class_drop=8.0), _trained(small.network()), minimise="macs")
    history = lines(tmp_path / "run", "history.jsonl")
    assert all((r["lost"]["class_drop"] > 8.0) == r["given_up"] for r in history[1:])
    assert all(r["lost"]["class"] for r in history[1:])
    assert run.record["budgets"][0]["kind"] == "class_drop"


def test_with_class_drop_a_rare_class_weighs_as_much_as_the_others(tmp_path: Path) -> None:
    go(tmp_path / "run", sc.Budget(class_drop=50.0), _trained(small.network()), minimise="macs")
    steps = [json.loads(line) for line in (tmp_path / "run" / "journal.jsonl").read_text().splitlines()]
    (counts,) = (s["outcome"] for s in steps if s["step"] == "class frequencies")
    assert sorted(counts) == ["0", "1", "2", "3"]
    outputs, targets = torch.zeros(8, 4), torch.tensor([0, 0, 0, 0, 0, 0, 0, 1])
    outputs[:, 0] = 1.0
    weighted = _weighted([8 / 2 / 7, 8 / 2], outputs, targets)
    each = torch.nn.functional.cross_entropy(outputs, targets, reduction="none")
    assert weighted == pytest.approx(float((each[0] + each[7]) / 2))


def test_lower_is_better_and_no_classes(tmp_path: Path) -> None:
    run = go(tmp_path / "run", sc.Budget(params="0.5x", drop=50.0), task=small.mean_output_task())
    assert run.record["metric"]["name"] == "error" and run.record["classes"] == []


def test_taylor_scores_on_training_data(tmp_path: Path) -> None:
    run = go(tmp_path / "run", sc.Budget(macs="0.5x", drop=90.0), criterion=CriterionOptions("taylor"))
    assert run.verdict == "met"


def test_a_folder_of_another_recipe_is_refused(tmp_path: Path) -> None:
    go(tmp_path / "run", sc.Budget(macs="0.7x", drop=90.0))
    before = sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "run").rglob("*"))
    with pytest.raises(sc.RunFolderError, match="another recipe"):
        go(tmp_path / "run", sc.Budget(macs="0.6x", drop=90.0))
    with pytest.raises(sc.RunFolderError, match="another model"):
        go(tmp_path / "run", sc.Budget(macs="0.7x", drop=90.0), small.network(seed=5))
    assert sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "run").rglob("*")) == before


def _trained(model: torch.nn.Module) -> torch.nn.Module:
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(6):
        for images, target in small.batches():
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(model(images), target).backward()
            optimiser.step()
    return model.eval()


class Worded(torch.nn.Module):
    """Takes keywords and returns a dict, as language models do."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(50, 32)
        self.up = torch.nn.Linear(32, 64)
        self.norm = torch.nn.LayerNorm(64)
        self.head = torch.nn.Linear(64, 3)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = torch.relu(self.norm(self.up(self.embed(input_ids))))
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return {"logits": self.head((hidden * mask).sum(1) / mask.sum(1))}


def test_batches_as_dicts_with_labels_through_onnx_int8(tmp_path: Path) -> None:
    def batches(count: int, seed: int) -> list[dict[str, torch.Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        ids = [torch.randint(0, 50, (8, 6), generator=generator) for _ in range(count)]
        return [{"input_ids": i, "attention_mask": torch.ones_like(i), "labels": i[:, 0] % 3} for i in ids]

    torch.manual_seed(0)
    run = sc.compress(
        Worded(),
        (batches(6, 1), batches(3, 2)),
        recipe=small.recipe(sc.Budget(params="0.7x", drop=90.0), target="onnxruntime:auto"),
        out=tmp_path / "run",
        device=small.device(),
        quiet=True,
    )
    assert run.verdict == "met"
    assert {a["name"] for a in run.record["artifacts"]} == {
        "dense-fp32",
        "dense-int8",
        "pruned-fp32",
        "pruned-int8",
    }
    batch = batches(1, 3)[0]
    del batch["labels"]
    assert sc.load(run.folder)(**batch)["logits"].shape == (8, 3)


def test_baselines_that_train_stand_beside_the_others_on_request(tmp_path: Path) -> None:
    run = go(tmp_path / "run", sc.Budget(macs="0.6x", drop=90.0), trained_baselines=True)
    trained = {b["name"]: b for b in run.record["baselines"] if b["training"]}
    assert set(trained) == {"the dense model, trained as long", "random pruning, trained as long"}
    rounds = len(lines(tmp_path / "run", "history.jsonl")) - 1
    assert all(b["what"].startswith(f"{rounds} epochs") for b in trained.values())


def test_what_is_recovered_once_more_is_not_cut_again(tmp_path: Path) -> None:
    """With a rate that changes nothing, the second recovery leaves the quality as it was."""
    run = go(
        tmp_path / "run",
        sc.Budget(params="0.2x", drop=0.0),
        _trained(small.network()),
        criterion=CriterionOptions("random"),
        schedule=ScheduleOptions(rounds=1),
        recovery=small.RecoveryOptions(reconstruct=0, epochs=1, final_epochs=1, lr=1e-9),
    )
    history = lines(tmp_path / "run", "history.jsonl")
    assert (history[1]["params"], history[1]["macs"]) == (history[2]["params"], history[2]["macs"])
    assert history[1]["lost"]["drop"] > 0 and run.verdict in ("met", "missed")
    assert json.loads((tmp_path / "run" / "plan.json").read_text())["kept"]
