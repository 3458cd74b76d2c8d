"""On a device whose times are known, the fit finds them; what was measured is kept, and taken up again."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("onnxscript")

import secateur as sc
from secateur.bench import Effort, FakeDevice
from secateur.cost import Fit, FittedLatency
from secateur.coupling import Groups
from secateur.errors import CorruptFile, InputError
from secateur.latency import Latency, Pace, Survey, Where, fit_latency, one_sample
from secateur.planning import Problem, Rounding, dead_atoms
from tests.latency.priced import device, operators

PACE = Pace(networks=10, effort=Effort(min_turns=2, max_turns=2))


class Residual(nn.Module):
    """Two convolutions around a skip, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 48, 1), nn.Conv2d(48, 32, 1)
        self.head = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        x = x + self.b(self.a(x).relu())
        return self.head(x.mean((2, 3)))


@cache
def ready() -> tuple[nn.Module, Groups]:
    torch.manual_seed(0)
    model = Residual().eval()
    return model, sc.find_groups(sc.trace(model, torch.randn(2, 3, 8, 8)))


@cache
def fitted(folder: Path) -> Fit:
    groups = ready()[1]
    return fit_latency(
        groups, one_sample(groups.graph), Where(device=device(), threads=1), Survey(pace=PACE, cache=folder)
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def true_ms(model: nn.Module, plan: sc.Plan, folder: Path) -> float:
    """What the device takes for a cut."""
    from secateur.bench import Entry
    from secateur.deploy import export_onnx

    small = sc.cut(model, plan, torch.randn(2, 3, 8, 8))
    entry = Entry("cut", export_onnx(small, torch.randn(1, 3, 8, 8), folder / "cut.onnx"))
    return device().times(entry, 0)


@pytest.mark.parametrize("seed", range(4))
def test_cuts_that_were_not_measured_are_predicted(seed: int, folder: Path, tmp_path: Path) -> None:
    model, groups = ready()
    cost = FittedLatency(groups.graph, fitted(folder)).bind(groups)
    scores = sc.score(model, groups, sc.Random(seed))
    plan = sc.allocate(scores, keep=(0.3, 0.5, 0.7, 0.9)[seed])
    found = cost.of(groups.coupling.alive(dead_atoms(groups, plan)))
    assert found == pytest.approx(true_ms(model, plan, tmp_path), rel=0.03)


def test_it_says_how_wrong_it_is(folder: Path) -> None:
    fit = fitted(folder)
    assert 0 <= fit.median_error <= fit.p90_error < 0.05
    assert fit.networks == 10 and fit.about["device"] == "fake" and fit.about["runtime"] == "onnxruntime"
    assert Fit.from_json(fit.to_json()) == fit
    with pytest.raises(CorruptFile, match="no latency fit"):
        Fit.from_json({"terms": [["a"]]})


def test_the_block_that_a_runtime_computes_in_is_found(folder: Path) -> None:
    steps = {q for t in fitted(folder).terms if len(t.lengths) == 2 for q in t.quanta}
    assert steps == {8} or steps == {1}  # widths drawn in multiples of eight do not tell the two apart
    groups = ready()[1]
    fine = fit_latency(
        groups, one_sample(groups.graph), Where(device=device(), threads=1),
        Survey(Rounding(1), pace=Pace(networks=16, effort=PACE.effort), cache=folder / "fine"),
    )  # fmt: skip
    assert {q for t in fine.terms if len(t.lengths) == 2 for q in t.quanta} == {8}


def test_what_was_measured_is_not_measured_again(folder: Path) -> None:
    groups, again = ready()[1], device()
    first = fitted(folder)
    second = fit_latency(
        groups, one_sample(groups.graph), Where(device=again, threads=1), Survey(pace=PACE, cache=folder)
    )
    assert second == first and again.opened == 0


def test_stopped_in_the_middle_it_goes_on(folder: Path, tmp_path: Path) -> None:
    groups = ready()[1]
    limit = iter(range(5))

    def stop(line: str) -> None:
        if next(limit, None) is None:
            raise KeyboardInterrupt

    inputs = one_sample(groups.graph)
    with pytest.raises(KeyboardInterrupt):
        fit_latency(
            groups, inputs, Where(device=device(), threads=1), Survey(pace=PACE, cache=tmp_path, say=stop)
        )
    rest, lines = device(), []
    fit = fit_latency(
        groups, inputs, Where(device=rest, threads=1), Survey(pace=PACE, cache=tmp_path, say=lines.append)
    )
    assert len(lines) == 5 and fit == fitted(folder)


def test_a_damaged_record_is_refused_by_name(tmp_path: Path) -> None:
    groups = ready()[1]
    inputs, where = one_sample(groups.graph), Where(device=device(), threads=1)
    fit_latency(groups, inputs, where, Survey(pace=PACE, cache=tmp_path))
    file = next(tmp_path.rglob("3.json"))
    file.write_text("{}")
    with pytest.raises(CorruptFile, match=r"3\.json.*delete it"):
        fit_latency(groups, inputs, where, Survey(pace=PACE, cache=tmp_path))


def test_the_public_cost_spends_a_budget(folder: Path) -> None:
    model, groups = ready()
    cost = Latency(groups.graph, device=device(), threads=1, survey=Survey(pace=PACE, cache=folder))
    scores = sc.score(model, groups, sc.Random(0))
    plan = sc.allocate(scores, [cost], sc.Budget(latency="0.6x"))
    bound = cost.bind(groups)
    spent = bound.of(groups.coupling.alive(dead_atoms(groups, plan))) / bound.dense
    assert 0.5 < spent <= 0.6
    with pytest.raises(sc.Infeasible, match="latency"):
        sc.allocate(scores, [cost], sc.Budget(latency="0.001ms"))


def test_a_fit_prices_what_was_cut_from_its_model(folder: Path) -> None:
    model, groups = ready()
    plan = sc.allocate(sc.score(model, groups, sc.Random(3)), keep=0.5)
    whole = FittedLatency(groups.graph, fitted(folder)).bind(groups)
    expected = whole.of(groups.coupling.alive(dead_atoms(groups, plan)))
    small = sc.find_groups(sc.trace(sc.cut(model, plan, torch.randn(2, 3, 8, 8)), torch.randn(2, 3, 8, 8)))
    assert FittedLatency(small.graph, fitted(folder)).bind(small).dense == pytest.approx(expected)


def test_a_device_that_does_not_tell_is_said(tmp_path: Path) -> None:
    groups = ready()[1]
    mute = FakeDevice(lambda entry, turn: 1.0)
    assert not Where(device=mute).tells_operators
    with pytest.raises(InputError, match="does not tell"):
        fit_latency(
            groups, one_sample(groups.graph), Where(device=mute, threads=1), Survey(pace=PACE, cache=tmp_path)
        )


def test_widths_cover_every_part_of_the_range() -> None:
    from secateur.latency.networks import LEAST, draw_widths

    model, groups = ready()
    problem = Problem(sc.score(model, groups, sc.Random(0)), Rounding(1), None)
    drawn = np.array(draw_widths(problem, 9, seed=1))
    assert (drawn[0] == problem.units).all()
    for units, column in zip(problem.units, drawn[1:].T, strict=True):
        shares = np.sort(np.log(column / units) / np.log(LEAST))
        assert shares[0] < 0.2 and shares[-1] > 0.8 and np.diff(shares).max() < 0.4


def test_operators_are_told_by_the_fake(tmp_path: Path) -> None:
    from secateur.bench import Entry
    from secateur.deploy import export_onnx

    entry = Entry("x", export_onnx(Residual().eval(), torch.randn(1, 3, 8, 8), tmp_path / "m.onnx"))
    assert [o[0] for o in operators(entry)].count("Conv") == 3
