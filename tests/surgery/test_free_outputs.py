"""Outputs that may shrink: a model without a head is pruned along its residual stream, and says what is left."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import secateur as sc
from secateur.coupling import find_groups
from secateur.planning import dead_atoms, plan_of


class Encoder(nn.Module):
    """A residual stream of 16 channels, returned as it is and pooled through a layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 16)
        self.up, self.down = nn.Linear(16, 24), nn.Linear(24, 16)
        self.pool = nn.Linear(16, 12)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        stream = self.stem(x)
        stream = stream + self.down(self.up(stream).relu())
        return {"tokens": stream, "pooled": self.pool(stream[:, 0]).tanh()}


@pytest.fixture
def model() -> Encoder:
    torch.manual_seed(0)
    return Encoder().eval()


def inputs() -> Tensor:
    return torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("asked", "narrowed"),
    [
        (None, {}),
        (False, {}),
        ({}, {}),
        (True, {0: {2: 8}, 1: {1: 8}}),
        ({"tokens": [2]}, {0: {2: 8}}),
        ({0: [-1]}, {0: {2: 8}}),
        ("pooled", {1: {1: 8}}),
        (["tokens", 1], {0: {2: 8}, 1: {1: 8}}),
        ({"tokens": None, "1": 1}, {0: {2: 8}, 1: {1: 8}}),
    ],
)
def test_chosen_outputs_get_narrower(model: Encoder, asked: Any, narrowed: dict[int, dict[int, int]]) -> None:
    result = sc.prune(model, inputs(), keep=0.5, free_outputs=asked)
    assert {i: {a: len(kept) for a, kept in axes.items()} for i, axes in result.outputs.items()} == narrowed
    found = result.model(inputs())
    assert found["tokens"].shape == (2, 5, narrowed.get(0, {}).get(2, 16))
    assert found["pooled"].shape == (2, narrowed.get(1, {}).get(1, 12))
    streams = [lock for lock in result.locked if lock.param == "stem.weight" and lock.axis == 0]
    assert bool(streams) == (0 not in narrowed)


def test_what_is_kept_is_where_the_record_says(model: Encoder) -> None:
    """With the hidden layer whole, the kept channels of the output hold what the original's do, apart from what reads
    removed ones: zero these columns in the original, and both are the same there."""
    graph = sc.trace(model, inputs())
    groups = find_groups(graph, free_outputs=True)
    stream = groups["stem.weight:0"]
    plan = plan_of(groups, stream.atoms[::3])
    small = sc.cut(model, plan, inputs())
    kept = list(plan.outputs[0][2])
    assert kept == [i for i in range(16) if i % 3]
    gone = stream.members[0].positions[::3].reshape(-1)
    with torch.no_grad():
        model.up.weight[:, gone] = 0
        model.pool.weight[:, gone] = 0
        expected, found = model(inputs()), small(inputs())
    torch.testing.assert_close(found["tokens"], expected["tokens"][..., kept])
    torch.testing.assert_close(found["pooled"], expected["pooled"])


def test_the_plan_carries_it(model: Encoder, tmp_path) -> None:
    result = sc.prune(model, inputs(), keep=0.5, free_outputs=True)
    result.plan.save(tmp_path / "plan.json")
    plan = sc.Plan.load(tmp_path / "plan.json")
    assert plan == result.plan and plan.outputs == result.outputs
    again = sc.cut(model, plan, inputs())
    for name, value in again(inputs()).items():
        torch.testing.assert_close(value, result.model(inputs())[name])
    second = sc.prune(result.model, inputs(), keep=0.5, free_outputs=True)
    both = plan.then(second.plan)
    assert all(set(both.outputs[i][a]) < set(plan.outputs[i][a]) for i, a in ((0, 2), (1, 1)))
    twice = sc.cut(model, both, inputs())
    for name, value in twice(inputs()).items():
        torch.testing.assert_close(value, second.model(inputs())[name])


def test_a_plan_with_other_outputs_is_refused(model: Encoder) -> None:
    plan = sc.prune(model, inputs(), keep=0.5, free_outputs=True).plan
    altered = dataclasses.replace(plan, outputs={**plan.outputs, 1: {1: (0, 1)}})
    with pytest.raises(sc.PlanError, match="outputs are not what its parameters give"):
        sc.cut(model, altered, inputs())
    with pytest.raises(sc.PlanError, match="splits what is coupled"):
        dead_atoms(find_groups(sc.trace(model, inputs())), plan)


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ("tokns", sc.UnknownName, r"'tokns'; did you mean tokens\?.*0: tokens \[2, 5, 16\], 1: pooled"),
        (7, sc.UnknownName, "nothing called 7"),
        ({"tokens": [3]}, sc.UnknownName, "has no axis 3; axes 1 to 2"),
        ({"tokens": [0]}, sc.RecipeError, "axis 0 of output 'tokens' is the batch"),
        ({"pooled": [-2]}, sc.RecipeError, "is the batch"),
        (0.5, sc.RecipeError, "free_outputs=0.5 is not understood"),
    ],
)
def test_wrong_names_are_told(model: Encoder, asked: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        sc.prune(model, inputs(), keep=0.5, free_outputs=asked)


def test_one_output_returned_twice_is_free_only_as_both() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(6, 16)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = self.a(x)
            return y, y

    graph = sc.trace(Twice().eval(), inputs()[:, 0])
    assert len(find_groups(graph, free_outputs=[0])) == 0
    assert len(find_groups(graph, free_outputs=[0, 1])) == 1


def test_a_classifiers_classes_go_only_if_asked() -> None:
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 8)).eval()
    assert sc.prune(model, inputs()[:, 0], keep=0.5).model(inputs()[:, 0]).shape == (2, 8)
    result = sc.prune(model, inputs()[:, 0], params="0.5x", free_outputs=["output"])
    assert result.model(inputs()[:, 0]).shape == (2, len(result.outputs[0][1]))
