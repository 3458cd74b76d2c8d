"""Wrong requests end in one line and leave nothing; what is finished stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur as sc
from secateur.task import Task, accuracy
from tests.pipeline import small

BUDGET = sc.Budget(macs="0.5x", drop=90.0)


def failing(outputs: Tensor, target: Tensor) -> Any:
    raise ValueError("no such column")


def not_a_number(outputs: Tensor, target: Tensor) -> Tensor:
    return outputs.sum() * float("nan")


class Branches(nn.Module):
    """Cannot be exported: it branches on a value."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))


def broken(name: str) -> nn.Module:
    model = small.network()
    with torch.no_grad():
        model.get_parameter(name).view(-1)[0] = float("nan")
    return model


def labelled(high: int) -> list[tuple[Tensor, Tensor]]:
    return [(x, torch.full_like(y, high)) for x, y in small.batches()]


CASES: dict[str, tuple[Callable[[], dict[str, Any]], type[sc.SecateurError], str]] = {
    "loss fails": (
        lambda: {"task": Task(failing, accuracy, name="accuracy")},
        sc.TaskError,
        "loss failed with ValueError: no such column",
    ),
    "metric fails": (
        lambda: {"task": Task(F.cross_entropy, failing, name="accuracy")},
        sc.TaskError,
        "metric failed with ValueError: no such column",
    ),
    "loss is NaN": (lambda: {"task": Task(not_a_number, accuracy, name="accuracy")}, sc.SecateurError, "NaN"),
    "weights are NaN": (lambda: {"model": broken("conv2.weight")}, sc.NotFinite, "'conv2.weight' holds NaN"),
    "labels out of range": (lambda: {"train": labelled(7)}, sc.DataError, "7"),
    "negative labels": (lambda: {"train": labelled(-3)}, sc.DataError, "-3"),
    "no training data": (lambda: {"train": []}, sc.DataError, "training data"),
    "no evaluation data": (lambda: {"evaluate": []}, sc.DataError, "evaluation data"),
    "batches of no known form": (
        lambda: {"train": [torch.ones(4, 1, 8, 8)] * 4},
        sc.DataError,
        "(inputs, target)",
    ),
    "inputs of a wrong shape": (
        lambda: {"example_inputs": torch.ones(2, 3, 8, 8)},
        sc.InputError,
        "does not run on inputs of shape [2, 3, 8, 8]",
    ),
    "a model that does not export": (lambda: {"model": Branches()}, sc.NotExportable, "if x.sum() > 0"),
}


@pytest.mark.parametrize("case", CASES)
def test_wrong_input_is_one_line_and_leaves_nothing(case: str, tmp_path: Path) -> None:
    make, kind, words = CASES[case]
    given = make()
    out = tmp_path / "run"
    with pytest.raises(kind) as caught:
        sc.compress(
            given.get("model", small.network()),
            (given.get("train", small.batches()), given.get("evaluate", small.batches(4, seed=2))),
            recipe=small.recipe(BUDGET),
            task=given.get("task"),
            example_inputs=given.get("example_inputs"),
            out=out,
            device=small.device(),
            quiet=True,
        )
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 2
    assert not out.exists()


def test_finished_rounds_stay_when_the_loss_fails_later(tmp_path: Path) -> None:
    calls = 0

    def loss(outputs: Tensor, target: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > 40:
            raise ValueError("the disk with the labels is gone")
        return F.cross_entropy(outputs, target)

    recipe = small.recipe(BUDGET, criterion=small.magnitude())
    data = (small.batches(), small.batches(4, seed=2))
    options = {"recipe": recipe, "out": tmp_path / "run", "device": small.device(), "quiet": True}
    with pytest.raises(sc.TaskError, match="the disk with the labels is gone"):
        sc.compress(small.network(), data, task=Task(loss, accuracy, name="accuracy"), **options)
    assert (tmp_path / "run" / "rounds" / "01" / "plan.json").exists()
    good = Task(F.cross_entropy, accuracy, name="accuracy")
    assert sc.compress(small.network(), data, task=good, **options).verdict == "met"
