"""Optimal brain surgeon over units: against least squares by hand, and what compensation must see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from secateur.coupling import find_groups
from secateur.errors import DataError
from secateur.graph import trace
from secateur.scoring import OBS, Taylor, score
from secateur.task import Task, classification
from tests.zoo import ZOO, ready
from tests.zoo.case import randomise

REGRESSION = Task(loss=lambda o, t: (o - t).square().mean(), metric=lambda o, t: 0.0)


def made():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).eval()
    randomise(model)
    return model


def batches(count=256, features=4):
    x = torch.randn(count, features, generator=torch.Generator().manual_seed(1))
    return [(part, torch.zeros(len(part), dtype=torch.long)) for part in x.split(64)]


def test_a_copy_costs_nothing_until_the_other_is_gone() -> None:
    model = made()
    with torch.no_grad():
        model[0].weight[4], model[0].bias[4] = model[0].weight[1], model[0].bias[1]
    groups = find_groups(trace(model, torch.randn(2, 4)))
    costs = score(model, groups, OBS(damp=1e-8), batches()).values["0.weight:0"]
    pair, others = sorted(costs[[1, 4]]), costs[[0, 2, 3, 5]]
    assert pair[0] < 1e-3 * min(others) and pair[1] > 1e-2 * max(others)
    plain = score(model, groups, Taylor(drawn=True), batches()).values["0.weight:0"]
    assert plain[1] > 1e-2 * plain.max()  # what does not compensate sees two units that matter


def test_the_first_to_go_by_hand() -> None:
    """The rise is the gate's Fisher information, times the share of the error that solving again leaves."""
    model = made()
    groups = find_groups(trace(model, torch.randn(2, 4)))
    costs = score(model, groups, OBS(samples=256, damp=1e-9), batches(), REGRESSION).values["0.weight:0"]
    with torch.no_grad():
        hidden = model[:2](torch.cat([x for x, _ in batches()])).double()
    about = hidden - hidden.mean(0)
    weight = model[2].weight.detach().double()
    # Of a Gaussian around the outputs, the information in each is the same, so the shares are of plain squares.
    shares = []
    for unit in range(6):
        rest = [i for i in range(6) if i != unit]
        found = torch.linalg.lstsq(about[:, rest], about[:, [unit]])
        left = about[:, [unit]] - about[:, rest] @ found.solution
        shares.append(float(left.square().sum() / about[:, unit].square().sum()))
        spread = model(torch.cat([x for x, _ in batches()])[:64]).std().double()
    expected = [
        0.5 * shares[u] * float((about[:, u].square().mean() * weight[:, u].square().sum()) / spread**2)
        for u in range(6)
    ]
    first = int(np.argmin(expected))
    assert int(np.argmin(costs)) == first
    # The noise that the information is drawn with leaves a fifth or so.
    assert costs[first] == pytest.approx(expected[first], rel=0.35)


@pytest.mark.parametrize("name", ZOO)
def test_every_unit_of_every_kind_has_a_finite_score(name: str) -> None:
    model, groups = ready(name)
    x = ZOO[name].inputs(4)
    task = Task(loss=lambda o, t: o.sum(), metric=lambda o, t: 0.0)
    given = [{**x, "labels": torch.zeros(4)}] if isinstance(x, dict) else [(x, torch.zeros(4))]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    scores = score(model, groups, OBS(), given, task)
    assert {n: v.shape for n, v in scores.values.items()} == {g.name: (g.units,) for g in groups}
    assert all((v >= 0).all() for v in scores.values.values()) and scores.comparable
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_no_label_is_looked_at_and_a_seed_decides() -> None:
    model, groups = ready("plain")
    x = torch.randn(16, 3, 8, 8)
    for criterion in (OBS(seed=1), Taylor(drawn=True, seed=1)):
        one = score(
            model, groups, criterion, [(x, torch.zeros(16, dtype=torch.long))], classification()
        ).values
        two = score(
            model, groups, criterion, [(x, torch.ones(16, dtype=torch.long))], classification()
        ).values
        assert all((one[n] == two[n]).all() for n in one)
    other = score(model, groups, OBS(seed=2), [(x, torch.zeros(16, dtype=torch.long))]).values
    assert any((one[n] != other[n]).any() for n in one)


def test_without_batches() -> None:
    model, groups = ready("plain")
    with pytest.raises(DataError, match="needs batches"):
        score(model, groups, OBS())
    with pytest.raises(DataError, match="empty"):
        score(model, groups, OBS(), [])
