"""Saved and loaded as data: the same outputs, and nothing accepted that was altered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from secateur.errors import CorruptFile, FormError, InputError, PlanError, SecateurError
from secateur.planning import Rounding
from secateur.surgery import cut_groups, load, prune, save
from secateur.surgery.store import PLAN, PROGRAM, REFERENCE, WEIGHTS
from secateur.task import call
from tests.zoo import ZOO, random_plan, ready
from tests.zoo.convolutions import Plain


def stored(folder: Path, name: str = "plain") -> torch.fx.GraphModule:
    groups = ready(name)[1]
    module = cut_groups(groups, random_plan(groups, 2)).module
    save(module, folder)
    return module


@pytest.mark.parametrize("name", ZOO)
def test_there_and_back(name: str, tmp_path: Path) -> None:
    module = stored(tmp_path, name)
    again = load(tmp_path)
    for batch in (1, 3):
        inputs = ZOO[name].inputs(batch)
        for a, b in zip(
            *(torch.utils._pytree.tree_leaves(call(m, inputs)) for m in (module, again)), strict=True
        ):
            torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-6)
    own, new = module.state_dict(), again.state_dict()
    assert list(own) == list(new) and all(
        torch.equal(own[k], new[k]) and own[k].dtype == new[k].dtype for k in own
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted((PROGRAM, WEIGHTS, REFERENCE, PLAN))


def test_a_loaded_model_trains_and_is_cut_again(tmp_path: Path) -> None:
    from secateur.coupling import find_groups
    from secateur.graph import trace

    stored(tmp_path)
    again = load(tmp_path).train()
    before = again.get_buffer("bn1.running_mean").clone()
    again(torch.randn(4, 3, 8, 8)).sum().backward()
    assert not torch.equal(again.get_buffer("bn1.running_mean"), before)
    assert all(p.grad is not None for p in again.parameters())
    groups = find_groups(trace(again.eval(), torch.randn(2, 3, 8, 8)))
    assert cut_groups(groups, random_plan(groups, 0)).verification.max_relative_error < 1e-5


def test_a_model_that_was_not_cut_needs_inputs(tmp_path: Path) -> None:
    model = Plain().eval()
    with pytest.raises(InputError, match="needs example_inputs"):
        save(model, tmp_path)
    save(model, tmp_path, torch.randn(1, 3, 8, 8))
    x = torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(load(tmp_path)(x), model(x))


@pytest.mark.parametrize("file", [PROGRAM, WEIGHTS, REFERENCE])
def test_missing_or_truncated(file: str, tmp_path: Path) -> None:
    stored(tmp_path)
    content = (tmp_path / file).read_bytes()
    for length in (0, 7, len(content) // 2, len(content) - 3):
        (tmp_path / file).write_bytes(content[:length])
        with pytest.raises(CorruptFile, match=file) as caught:
            load(tmp_path)
        assert "\n" not in str(caught.value)
    (tmp_path / file).unlink()
    with pytest.raises(CorruptFile, match=file):
        load(tmp_path)


def test_altered_weights(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    stored(tmp_path)
    weights = load_file(tmp_path / WEIGHTS)
    name = next(n for n in weights if n.endswith("fc.weight"))
    save_file({**weights, name: weights[name] * 1.5}, tmp_path / WEIGHTS)
    with pytest.raises(CorruptFile, match="does not compute its reference outputs"):
        load(tmp_path)
    save_file({n: w for n, w in weights.items() if n != name}, tmp_path / WEIGHTS)
    with pytest.raises(SecateurError):
        load(tmp_path)
    save_file({**weights, name: weights[name][:, :-1].contiguous()}, tmp_path / WEIGHTS)
    with pytest.raises(SecateurError):
        load(tmp_path)


def test_a_program_that_names_something_else(tmp_path: Path) -> None:
    stored(tmp_path)
    text = (tmp_path / PROGRAM).read_text()
    assert "aten::relu" in text or "aten.relu" in text
    for wrong in ("os::system", "builtins.eval", "aten::no_such_operator"):
        (tmp_path / PROGRAM).write_text(text.replace("aten::relu", wrong).replace("aten.relu", wrong))
        with pytest.raises(CorruptFile):
            load(tmp_path)


@pytest.mark.parametrize("content", ["[]", "{}", "null", '{"nodes": 3}'])
def test_json_that_is_no_program(content: str, tmp_path: Path) -> None:
    stored(tmp_path)
    (tmp_path / PROGRAM).write_text(content)
    with pytest.raises(CorruptFile):
        load(tmp_path)


def test_into_the_users_own_class(tmp_path: Path) -> None:
    model = Plain().eval()
    save(model, tmp_path, torch.randn(1, 3, 8, 8))
    twin = Plain().eval()
    x = torch.randn(2, 3, 8, 8)
    before = twin(x)
    assert not torch.allclose(before, model(x))
    loaded = load(tmp_path, into=twin)
    assert type(loaded) is Plain
    torch.testing.assert_close(loaded(x), model(x))
    torch.testing.assert_close(twin(x), before)


def test_a_pruned_model_into_the_users_own_class(tmp_path: Path) -> None:
    small = stored(tmp_path)
    x = torch.randn(2, 3, 8, 8)
    loaded = load(tmp_path, into=Plain().eval())
    assert type(loaded) is Plain
    assert sum(p.numel() for p in loaded.parameters()) == sum(p.numel() for p in small.parameters())
    torch.testing.assert_close(loaded(x), small(x))
    with pytest.raises(FormError, match=r"Sequential cannot hold the stored model: .*load the graph form"):
        load(tmp_path, into=torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)))


def test_the_plan_of_a_model_before_is_not_gone_by(tmp_path: Path) -> None:
    """A model without a plan takes its place; and where one was left there, the shapes tell that it is another's."""
    stored(tmp_path)
    left = (tmp_path / PLAN).read_bytes()
    small = prune(
        Plain().eval(), torch.randn(1, 3, 8, 8), keep=0.25, rounding=Rounding(1), form="module"
    ).model
    save(small, tmp_path, torch.randn(1, 3, 8, 8))
    assert not (tmp_path / PLAN).exists()
    x = torch.randn(2, 3, 8, 8)
    for _ in range(2):
        loaded = load(tmp_path, into=Plain().eval())
        torch.testing.assert_close(loaded(x), small(x))
        (tmp_path / PLAN).write_bytes(left)


def test_a_model_that_is_saved_again_keeps_its_plan(tmp_path: Path) -> None:
    stored(tmp_path)
    plan = (tmp_path / PLAN).read_bytes()
    save(load(tmp_path), tmp_path)
    assert (tmp_path / PLAN).read_bytes() == plan
    (tmp_path / PLAN).write_text("{")
    load(tmp_path)  # the graph form needs none
    with pytest.raises(PlanError):
        load(tmp_path, into=Plain().eval())


def test_nothing_is_pickled(tmp_path: Path) -> None:
    stored(tmp_path)
    assert json.loads((tmp_path / PROGRAM).read_text())
    for file in (WEIGHTS, REFERENCE):
        header = (tmp_path / file).read_bytes()
        size = int.from_bytes(header[:8], "little")
        json.loads(header[8 : 8 + size])
