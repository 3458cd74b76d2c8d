"""Cells: the saliency of one unit in one head or one group, by hand, by derivatives, and for anybody's criterion."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from secateur.coupling import Across, Inside, find_groups
from secateur.graph import trace
from secateur.scoring import (
    Block,
    Criterion,
    Magnitude,
    Random,
    Run,
    Scores,
    Taylor,
    gather,
    score,
    sum_slices,
    where,
)
from tests.zoo import ZOO, ready

FREE = [n for n in ZOO if ready(n)[1].contexts]


@pytest.mark.parametrize("name", FREE)
@pytest.mark.parametrize("p", [1, 2])
def test_the_cells_of_a_unit_add_up_to_its_magnitude(name: str, p: int) -> None:
    model, groups = ready(name)
    scores = score(model, groups, Magnitude(p))
    assert set(scores.cells) == set(groups.contexts)
    for group, cells in scores.cells.items():
        assert cells.shape == groups.contexts[group].shape
        np.testing.assert_allclose(cells.sum(axis=0), scores.values[group], rtol=1e-6)


def test_cells_of_a_grouped_convolution_by_hand() -> None:
    model, groups = ready("grouped")
    cells = score(model, groups, Magnitude(1)).cells
    own = {n: t.abs().double() for n, t in model.state_dict().items()}
    for g in range(4):
        for i in range(4):
            written = own["reduce.weight"][4 * g + i].sum() + own["reduce.bias"][4 * g + i]
            read = own["conv.weight"][8 * g : 8 * g + 8, i].sum()
            assert cells["reduce.weight:0"][g, i] == pytest.approx(float(written + read), rel=1e-6)


def test_cells_of_heads_by_hand() -> None:
    model, groups = ready("vit_chunk")
    cells = score(model, groups, Magnitude()).cells["qkv.weight:0#2"]
    own = {n: t.double() ** 2 for n, t in model.state_dict().items()}
    for h in range(4):
        for i in range(4):
            rows = [4 * h + i, 16 + 4 * h + i]  # queries and keys
            by_hand = sum(float(own["qkv.weight"][r].sum() + own["qkv.bias"][r]) for r in rows)
            assert cells[h, i] == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.parametrize("name", ["grouped", "vit_chunk", "gqa_repeat"])
def test_taylor_cells_against_finite_differences(name: str) -> None:
    model = ZOO[name].model().double()
    x = ZOO[name].inputs(4).double()  # type: ignore[union-attr]
    target = torch.tensor([0, 1, 2, 3])
    groups = find_groups(trace(model, x))
    cells = score(model, groups, Taylor(), [(x, target)]).cells

    def loss(group: str, context: int, unit: int, factor: float) -> float:
        twin = copy.deepcopy(model)
        named = dict(twin.named_parameters())
        reads = {(m.param, m.axis) for m in groups[group].members if m.consumes}
        with torch.no_grad():
            for param, placements in groups.contexts[group].members.items():
                for at in placements:
                    if reads and (param, at.axis) not in reads:
                        continue
                    weight, mask = named[param], torch.ones_like(named[param])
                    if isinstance(at, Inside):
                        mask.index_fill_(at.axis, torch.from_numpy(at.positions[context, unit]), factor)
                    else:
                        rows, columns = at.rows[context], at.positions[unit]
                        assert isinstance(at, Across) and (at.over, at.axis) == (0, 1)
                        mask[rows[:, None], columns] = factor
                    weight.mul_(mask)
            return float(F.cross_entropy(twin(x), target))

    eps = 1e-6
    for group, found in cells.items():
        for context in range(found.shape[0]):
            unit = context % found.shape[1]
            slope = (loss(group, context, unit, 1 + eps) - loss(group, context, unit, 1 - eps)) / (2 * eps)
            assert found[context, unit] == pytest.approx(slope**2, rel=1e-3, abs=1e-12)


def test_aligned_units_are_the_best_of_every_context() -> None:
    groups = ready("vit_chunk")[1]
    cells = np.array([[1.0, 4.0, 2.0, 3.0], [8.0, 7.0, 6.0, 5.0], [0.0, 0.0, 9.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    scores = Scores(groups, {"qkv.weight:0#2": cells.sum(0)}, "by hand", False, {"qkv.weight:0#2": cells})
    assert scores.aligned("qkv.weight:0#2").tolist() == [22, 12, 9, 7]
    assert scores.orders["qkv.weight:0#2"].tolist() == [
        [1, 3, 2, 0],
        [0, 1, 2, 3],
        [2, 3, 0, 1],
        [0, 1, 2, 3],
    ]


@pytest.mark.parametrize("name", FREE)
def test_what_the_best_of_every_context_hold_is_never_less(name: str) -> None:
    model, groups = ready(name)
    for criterion in (Magnitude(1), Magnitude(), Random(1)):
        scores = score(model, groups, criterion)
        for group, cells in scores.cells.items():
            together = np.sort(cells.sum(axis=0))[::-1].cumsum()
            assert (scores.aligned(group).cumsum() >= together * (1 - 1e-12)).all()


def test_values_of_units_do_not_depend_on_cells() -> None:
    model, groups = ready("grouped")
    batches = [(ZOO["grouped"].inputs(3), torch.arange(3))]
    for criterion in (Magnitude(1), Random(7), Taylor()):
        with_cells = score(model, groups, criterion, batches)
        without = score(model, groups, criterion, batches, cells=False)
        assert not without.cells and not without.orders
        for name, value in without.values.items():
            np.testing.assert_array_equal(with_cells.values[name], value)
            assert without.aligned(name) is value


class Own(Criterion):
    """Somebody's criterion from before there were cells: it reads slices along one axis in its own way."""

    def weigh(self, tensors: Mapping[str, Tensor], run: Run) -> Mapping[str, np.ndarray]:
        out = {}
        for group in run.groups:
            total = np.zeros(group.units)
            for member in group.members:
                if member.param in tensors:
                    moved = (
                        tensors[member.param].movedim(member.axis, 0).flatten(1)
                        if (tensors[member.param].dim() > 1)
                        else tensors[member.param][:, None]
                    )
                    total += moved.abs().double().sum(1).numpy()[member.positions].sum(1)
            out[group.name] = total
        return out


class OwnWithBlocks(Criterion):
    """The same with the functions for it, which read blocks too."""

    reads_blocks = True

    def weigh(self, tensors: Mapping[str, Tensor], run: Run) -> Mapping[str, np.ndarray]:
        places = {where(m) for g in run.groups for m in g.members if m.param in tensors}
        return gather(run.groups, {(n, axis): sum_slices(tensors[n].abs(), axis) for n, axis in places})


def test_a_criterion_of_the_users_own_scores_cells_unchanged() -> None:
    model, groups = ready("vit_chunk")
    expected = score(model, groups, Magnitude(1))
    found = score(model, groups, Own())
    assert set(found.cells) == set(expected.cells)
    for name, cells in expected.cells.items():
        np.testing.assert_allclose(found.cells[name], cells, rtol=1e-5)


def test_blocks_only_for_criteria_that_read_them() -> None:
    model, groups = ready("grouped")
    expected = score(model, groups, Magnitude(1))
    assert set(score(model, groups, Own()).cells) == {"conv.weight:0"}
    found = score(model, groups, OwnWithBlocks())
    assert set(found.cells) == set(expected.cells) == {"conv.weight:0", "reduce.weight:0"}
    for name, cells in expected.cells.items():
        np.testing.assert_allclose(found.cells[name], cells, rtol=1e-5)


def test_sums_over_blocks() -> None:
    tensor = torch.arange(24.0).reshape(2, 3, 4)
    assert sum_slices(tensor, (0, 2)).tolist() == tensor.sum(1).reshape(-1).tolist()
    assert sum_slices(tensor, (2, 0)).tolist() == tensor.sum(1).T.reshape(-1).tolist()
    block = Block("w", 1, np.zeros((1, 1), dtype=np.int64), True, 0)
    assert where(block) == ("w", (0, 1))
