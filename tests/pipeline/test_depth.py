"""Depth against width: blocks that do nothing go whole, blocks that matter stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("onnxscript")

import secateur as sc
from tests.latency import priced
from tests.pipeline import small


class Block(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(16, 32, 3, padding=1), nn.Conv2d(32, 16, 3, padding=1)
        with torch.no_grad():
            self.two.weight.mul_(scale)
            self.two.bias.mul_(scale)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.two(torch.relu(self.one(x)))


class Residual(nn.Module):
    """Four blocks; those at ``idle`` add nothing."""

    def __init__(self, idle: tuple[int, ...]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(0.0 if i in idle else 3.0) for i in range(4)))
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def go(out: Path, idle: tuple[int, ...], depth: str = "auto") -> sc.Run:
    return sc.compress(
        Residual(idle),
        (small.batches(), small.batches(4, seed=2)),
        recipe=small.recipe(
            sc.Budget(latency="0.6x"),
            target="onnxruntime:fp32",
            depth=depth,
            recovery=small.RecoveryOptions(epochs=0, final_epochs=0),
        ),
        out=out,
        device=priced.device(),
        quiet=True,
    )


def read(out: Path, name: str) -> dict:  # type: ignore[type-arg]
    return json.loads((out / name).read_text())  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> sc.Run:
    return go(tmp_path_factory.mktemp("depth") / "run", idle=(1, 2))


def test_blocks_that_add_nothing_go_whole(idle: sc.Run) -> None:
    plan = sc.Plan.load(idle.folder / "plan.json")
    assert {"blocks.1", "blocks.2"} <= {name.partition("#")[0] for name in plan.removed}
    rows = {row["name"]: row for row in read(idle.folder, "layers.json")}
    gone = rows["blocks.1.one"]
    assert gone["params_after"] == gone["macs_after"] == gone["units_after"] == 0 < gone["params_before"]
    assert idle.verdict == "met"
    model = sc.load(idle.folder)
    assert sum(p.numel() for p in model.parameters()) == sum(r["params_after"] for r in rows.values())
    assert go(idle.folder, idle=(1, 2)).record == idle.record  # recorded, and replayed


def test_predictions_price_removed_blocks(idle: sc.Run) -> None:
    found = [json.loads(line) for line in (idle.folder / "measurements.jsonl").read_text().splitlines()]
    told = [m for m in found if m["artifact"] == "pruned-fp32" and m["predicted_ms"]]
    assert told and all(abs(m["predicted_ms"] / m["median_ms"] - 1) < 0.06 for m in told)


def test_switched_off_only_widths_are_cut(tmp_path: Path) -> None:
    go(tmp_path / "off", idle=(1, 2), depth="off")
    assert sc.Plan.load(tmp_path / "off" / "plan.json").removed == ()
