"""Plans as data: round trips, one after another, and everything that is no plan for this model."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.coupling import find_groups
from secateur.errors import PlanError, RunFolderError
from secateur.graph import trace
from secateur.planning import Plan, dead_atoms, plan_of
from secateur.surgery import cut, cut_groups
from secateur.task import call
from tests.zoo import ZOO, random_plan, ready

SOME = (
    "plain",
    "grouped",
    "shuffle",
    "vit_chunk",
    "gqa_enable",
    "tied_head",
    "folded",
    "two_inputs",
    "group_norm",
)


@pytest.mark.parametrize("name", SOME)
@given(seed=st.integers(0, 10**6))
def test_a_plan_survives_json(name: str, seed: int) -> None:
    groups = ready(name)[1]
    plan = random_plan(groups, seed)
    again = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert again == plan
    assert (np.sort(dead_atoms(groups, again)) == np.sort(dead_atoms(groups, plan))).all()


@pytest.mark.parametrize("name", ZOO)
def test_atoms_come_back_out_of_a_plan(name: str) -> None:
    groups = ready(name)[1]
    rng = np.random.default_rng(0)
    dead = np.concatenate([rng.permutation(g.atoms)[: g.units // 2] for g in groups])
    found = dead_atoms(groups, plan_of(groups, dead))
    assert sorted(found.tolist()) == sorted(dead.tolist())


def test_a_plan_speaks_of_original_indices() -> None:
    groups = ready("plain")[1]
    plan = plan_of(groups, groups["conv2.weight:0"].atoms[[0, 3]])
    kept = tuple(i for i in range(16) if i not in (0, 3))
    assert plan.kept["conv2.weight"] == {0: kept}
    assert plan.kept["bn2.running_var"] == {0: kept}
    assert plan.kept["fc.weight"] == {1: tuple(4 * i + j for i in kept for j in range(4))}
    assert set(plan.kept) == {
        "conv2.weight",
        "bn2.weight",
        "bn2.bias",
        "bn2.running_mean",
        "bn2.running_var",
        "fc.weight",
    }


def test_saved_and_loaded(tmp_path: Path) -> None:
    plan = random_plan(ready("plain")[1], 3)
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


def test_saving_where_nothing_can_be_written(tmp_path: Path) -> None:
    plan = random_plan(ready("plain")[1], 3)
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match="cannot write"):
        plan.save(tmp_path / "file" / "plan.json")
    (tmp_path / "taken").mkdir()
    with pytest.raises(RunFolderError, match="taken"):
        plan.save(tmp_path / "taken")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "taken"]


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("seed", [0, 1])
def test_one_plan_after_another_is_both_at_once(name: str, seed: int) -> None:
    model, groups = ready(name)
    inputs = ZOO[name].inputs(2)
    first = random_plan(groups, seed)
    small = cut_groups(groups, first).module
    again = find_groups(trace(small, inputs))
    second = random_plan(again, seed + 1)
    twice = cut_groups(again, second).module
    if name == "folded":  # the cut model holds the folded weights; its parameters are named as before
        assert set(second.kept) <= set(groups.graph.state_names())
    once = cut(model, first.then(second), inputs)
    state = once.state_dict()
    assert {k: v.shape for k, v in twice.state_dict().items()} == {k: v.shape for k, v in state.items()}
    for (
        name_,
        tensor,
    ) in twice.state_dict().items():  # attention's scale goes into the weights once or in two factors
        torch.testing.assert_close(tensor, state[name_], rtol=1e-6, atol=0.0)
    for a, b in zip(*(torch.utils._pytree.tree_leaves(call(m, inputs)) for m in (once, twice)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_then_is_associative() -> None:
    def plan(**kept: tuple[int, ...]) -> Plan:
        return Plan("f", {name: {0: indices} for name, indices in kept.items()})

    a, b, c = plan(x=(0, 2, 4, 6, 8)), plan(x=(1, 2, 4), y=(0, 3)), plan(x=(0, 2), y=(1,))
    assert a.then(b).then(c) == a.then(b.then(c)) == plan(x=(2, 8), y=(3,))


def test_a_second_plan_for_something_larger() -> None:
    first = Plan("f", {"x": {0: (0, 2, 4)}})
    with pytest.raises(PlanError, match="keeps index 5 of 'x' axis 0, where the first leaves 3"):
        first.then(Plan("g", {"x": {0: (0, 5)}}))


def test_truncated(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    random_plan(ready("plain")[1], 3).save(path)
    text = path.read_text()
    for length in (0, 1, len(text) // 2, len(text) - 1):
        path.write_text(text[:length])
        with pytest.raises(PlanError, match=r"plan\.json is truncated or no JSON"):
            Plan.load(path)


@pytest.mark.parametrize("content", [b"[]", b"{}", b"3", b"null", b'"plan"', b'{"version": 1}'])
def test_json_that_is_no_plan(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "plan.json").write_bytes(content)
    with pytest.raises(PlanError, match="is not a plan"):
        Plan.load(tmp_path / "plan.json")


def test_no_file_and_no_text(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="cannot read the plan"):
        Plan.load(tmp_path / "plan.json")
    with pytest.raises(PlanError, match="cannot read the plan"):
        Plan.load(tmp_path)
    (tmp_path / "plan.json").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(PlanError, match="truncated or no JSON"):
        Plan.load(tmp_path / "plan.json")


@pytest.mark.parametrize("field", ["fingerprint", "kept", "removed", "permuted"])
def test_altered(field: str) -> None:
    data = random_plan(ready("plain")[1], 3).to_json()
    data[field] = {"conv1.weight": {"0": [1]}} if field in ("kept", "permuted") else ["x"]
    with pytest.raises(PlanError, match="digest does not match"):
        Plan.from_json(data)


def test_another_version() -> None:
    data = random_plan(ready("plain")[1], 3).to_json() | {"version": 99}
    with pytest.raises(PlanError, match="of version 99"):
        Plan.from_json(data)


def test_another_model() -> None:
    plan = random_plan(ready("plain")[1], 3)
    with pytest.raises(PlanError, match="fingerprint"):
        cut_groups(ready("residual")[1], plan)


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        ({"conv9.weight": {0: (0, 1)}}, "'conv9.weight' axis 0, which the model does not have"),
        ({"conv1.weight": {7: (0, 1)}}, "axis 7, which the model does not have"),
        ({"conv1.weight": {0: ()}}, "not sorted and inside"),
        ({"conv1.weight": {0: (1, 0)}}, "not sorted and inside"),
        ({"conv1.weight": {0: (0, 0)}}, "not sorted and inside"),
        ({"conv1.weight": {0: (0, 8)}}, "not sorted and inside"),
        ({"conv1.weight": {0: (-1, 3)}}, "not sorted and inside"),
        ({"conv1.weight": {0: (0, 1, 2)}}, "splits what is coupled"),
        ({"fc.weight": {0: (0, 1)}}, "splits what is coupled"),
        ({"conv1.weight": {1: (0, 1)}}, "splits what is coupled"),
    ],
)
def test_indices_that_the_model_does_not_allow(
    kept: dict[str, dict[int, tuple[int, ...]]], words: str
) -> None:
    groups = ready("plain")[1]
    with pytest.raises(PlanError, match=words):
        cut_groups(groups, Plan(groups.graph.fingerprint, kept))


def test_half_of_a_coupled_plan() -> None:
    groups = ready("residual")[1]
    plan = random_plan(groups, 1)
    kept = {n: a for n, a in plan.kept.items() if n != "conv2.weight"}
    with pytest.raises(PlanError, match=r"splits what is coupled, first at 'conv2\.weight'"):
        cut_groups(groups, dataclasses.replace(plan, kept=kept))
