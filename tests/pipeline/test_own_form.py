"""Runs whose result the user's own class is to hold: widths that its code can compute, round after round."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import secateur as sc
from secateur.errors import FormError
from secateur.recipe import RecoveryOptions, ScheduleOptions
from tests.pipeline import small


class Attending(nn.Module):
    """Columns of an image attend to each other: heads and their width stand in the code, and the root of the width."""

    def __init__(self, heads: int = 4, width: int = 32) -> None:
        super().__init__()
        self.heads, self.width = heads, width
        self.stem, self.qkv = nn.Linear(8, 24), nn.Linear(24, 3 * width)
        self.out, self.head = nn.Linear(width, 24), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x[:, 0])
        b, n, _ = x.shape
        size = self.width // self.heads
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, size).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * size**-0.5).softmax(-1)
        return self.head((x + self.out((weights @ v).transpose(1, 2).reshape(b, n, self.width))).mean(1))


class Stubborn(nn.Module):
    """A width that leaves no trace decides which way the code goes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(64, 32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x.flatten(1)).relu()
        return self.b(x if len(self.a.weight.tolist()) == 32 else x * 2)


def go(model: nn.Module, out: Path, form: str, rounds: int = 2) -> sc.Run:
    return sc.compress(
        model,
        (small.batches(), small.batches(4, seed=2)),
        recipe=small.recipe(
            sc.Budget(params="0.4x"), form=form, schedule=ScheduleOptions(rounds=rounds), multiple=1,
            criterion=small.magnitude(), recovery=RecoveryOptions(epochs=1, final_epochs=1, lr=1e-3),
        ),
        out=out,
        device=small.device(),
        quiet=True,
    )  # fmt: skip


@pytest.mark.parametrize("form", ["module", "auto"])
def test_the_class_holds_what_two_rounds_leave(form: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Attending()
    run = go(model, tmp_path / "run", form)
    assert json.loads((run.folder / "verdict.json").read_text())["form"] == {
        "asked": form, "got": "module", "obstacle": "",
    }  # fmt: skip
    own, graph = sc.load(run.folder, into=model), sc.load(run.folder)
    assert type(own) is Attending and own.width < 32
    images = small.batches(1, seed=5)[0][0]
    assert torch.allclose(own.eval()(images), graph.eval()(images), atol=1e-5)
    assert sum(p.numel() for p in own.parameters()) <= 0.4 * sum(p.numel() for p in model.parameters())


def test_a_class_that_cannot_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(FormError, match="Stubborn cannot hold the result in its own class"):
        go(Stubborn(), tmp_path / "run", "module")
    assert not (tmp_path / "run").exists()
    run = go(Stubborn(), tmp_path / "run", "auto", rounds=1)
    form = json.loads((run.folder / "verdict.json").read_text())["form"]
    assert form["got"] == "graph" and "Stubborn" in form["obstacle"]
