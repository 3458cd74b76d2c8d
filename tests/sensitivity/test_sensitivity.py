"""Curves of what each group costs, and saliencies in units of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import secateur as sc
from secateur.data import evaluate
from secateur.errors import CorruptFile, DataError
from secateur.planning import dead_atoms, plan_of
from secateur.sensitivity import Curve, Sampling, Sensitivity, calibrated, sensitivity
from tests.pipeline import small

TASK = sc.classification()


def ready(criterion: sc.Criterion) -> tuple[nn.Module, sc.Scores]:
    model = small.network().eval()
    groups = sc.find_groups(sc.trace(model, torch.randn(2, 1, 8, 8)))
    return model, sc.score(model, groups, criterion)


def test_a_point_is_the_loss_of_that_cut(tmp_path: Path) -> None:
    model, scores = ready(sc.Magnitude())
    batches = small.batches(2)
    found = sensitivity(scores, batches, TASK, sampling=Sampling(kept=(0.5,), recalibrate=0))
    dense = evaluate(model, batches, TASK)
    assert (found.loss, found.metric, found.samples) == (pytest.approx(dense.loss), dense.metric, 32)
    for group, curve in zip(scores.groups, found.curves, strict=True):
        assert curve.group == group.name and curve.removed == (0, group.units // 2)
        order = np.argsort(-scores.aligned(group.name), kind="stable")
        plan = plan_of(scores.groups, group.atoms[order][group.units // 2 :])
        cut = evaluate(sc.cut(model, plan, torch.randn(2, 1, 8, 8)), batches, TASK)
        assert curve.loss[1] == pytest.approx(cut.loss, rel=1e-5) and curve.metric[1] == cut.metric


def test_statistics_follow_the_cut() -> None:
    _, scores = ready(sc.Random(0))
    stale = sensitivity(scores, small.batches(2), TASK, sampling=Sampling(kept=(0.25,), recalibrate=0))
    fresh = sensitivity(scores, small.batches(2), TASK, sampling=Sampling(kept=(0.25,), recalibrate=2))
    assert [c.loss[1] for c in stale.curves] != [c.loss[1] for c in fresh.curves]


def test_points_are_kept_by_content(tmp_path: Path) -> None:
    _, scores = ready(sc.Magnitude())
    batches, lines = small.batches(2), []
    first = sensitivity(scores, batches, TASK, sampling=Sampling(kept=(0.5,)), cache=tmp_path)
    (file,) = tmp_path.iterdir()
    text = file.read_text()
    file.write_text(text[: len(text) // 2])  # broken off in the middle
    again = sensitivity(
        scores, batches, TASK, sampling=Sampling(kept=(0.5,)), cache=tmp_path, say=lines.append
    )
    assert again == first and file.read_text() == text
    with torch.no_grad():
        scores.groups.graph.tensor("fc.weight").mul_(2)
    assert sensitivity(scores, batches, TASK, sampling=Sampling(kept=(0.5,)), cache=tmp_path) != first
    assert len(list(tmp_path.iterdir())) == 2


def test_a_record_survives_json() -> None:
    record = Sensitivity(
        (Curve("a", 8, (0, 4), (1.0, 1.5), (0.9, 0.5)),), {"block": (2.0, 0.3)}, "magnitude", 1.0, 0.9, 32
    )
    assert Sensitivity.from_json(record.to_json()) == record
    with pytest.raises(CorruptFile, match="no record of sensitivity"):
        Sensitivity.from_json({"curves": 3})


def test_without_data_there_is_none() -> None:
    with pytest.raises(DataError, match="batches of data"):
        sensitivity(ready(sc.Magnitude())[1], [], TASK)


def test_calibrated_saliencies_add_up_to_the_curve_and_keep_the_order() -> None:
    _, scores = ready(sc.Magnitude())
    curves = tuple(
        Curve(
            g.name, g.units, (0, g.units // 2, 3 * g.units // 4), (1.0, 1.2 + i, 1.1 + 4 * i), (0.9, 0.5, 0.3)
        )
        for i, g in enumerate(scores.groups)
    )
    found = calibrated(scores, Sensitivity(curves, {}, "magnitude", 1.0, 0.9, 32))
    assert found.comparable and not scores.comparable
    for group, curve in zip(scores.groups, curves, strict=True):
        values = found.aligned(group.name)
        order = np.argsort(scores.aligned(group.name), kind="stable")
        assert (np.diff(values[order]) >= 0).all()
        assert values[order][: group.units // 2].sum() <= curve.rise(np.array([group.units // 2.0]))[0] + 1e-6
        assert values.sum() >= 0.999 * curve.rise(np.array([float(group.units)]))[0]


def test_a_group_that_costs_nothing_goes_first() -> None:
    _, scores = ready(sc.Magnitude())
    cheap, dear = sorted(scores.groups, key=lambda g: g.units)
    curves = (
        Curve(cheap.name, cheap.units, (0, cheap.units - 1), (1.0, 1.0), (0.9, 0.9)),
        Curve(dear.name, dear.units, (0, dear.units - 1), (1.0, 9.0), (0.9, 0.1)),
    )
    found = calibrated(scores, Sensitivity(curves, {}, "magnitude", 1.0, 0.9, 32))
    groups = scores.groups
    plan = sc.allocate(found, [sc.Macs(groups.graph)], sc.Budget(macs="0.6x"), rounding=sc.Rounding(1))
    dead = set(dead_atoms(groups, plan).tolist())
    share = {g.name: sum(a not in dead for a in g.atoms.tolist()) / g.units for g in groups}
    assert share[cheap.name] < share[dear.name]
