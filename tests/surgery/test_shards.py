"""A checkpoint that is cut tensor by tensor becomes what an ordinary cut makes of the model; nothing is half done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import secateur as sc
from secateur.coupling import Groups, find_groups
from secateur.graph import fetch, trace
from secateur.planning import Fold, Plan
from secateur.surgery import cut_groups, shards
from tests.zoo import ZOO, random_free_plan, randomise
from tests.zoo.language import INNER, Language, words

INDEX = "model.safetensors.index.json"


def write(model: nn.Module, folder: Path, files: int = 1) -> Path:
    """A model's state as a checkpoint, tied tensors once."""
    folder.mkdir()
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if not any(
            tensor is not t and tensor.data_ptr() == t.data_ptr() and t.numel() for t in state.values()
        ):
            state[name] = tensor.clone() if tensor.numel() < 2 else tensor
    state = {name: tensor.detach().clone() for name, tensor in state.items()}
    if files == 1:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    shares = [dict(list(state.items())[i::files]) for i in range(files)]
    names = [f"model-{i + 1:05}-of-{files:05}.safetensors" for i in range(files)]
    for name, share in zip(names, shares, strict=True):
        save_file(share, folder / name, metadata={"format": "pt"})
    where = {tensor: name for name, share in zip(names, shares, strict=True) for tensor in share}
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 0}, "weight_map": where}))
    return folder


def language(layers: int = 5, vocabulary: int = 20, dtype: torch.dtype = torch.float32) -> Language:
    torch.manual_seed(0)
    model = Language(layers, vocabulary).eval()
    randomise(model)
    return model.to(dtype)


def on_meta(dtype: torch.dtype = torch.float32) -> Language:
    with torch.device("meta"):
        return Language().eval().to(dtype)


def planned(model: nn.Module, seed: int = 3) -> tuple[Groups, Plan]:
    groups = find_groups(trace(model, words()))
    return groups, random_free_plan(groups, seed)


def read(folder: Path) -> dict[str, Tensor]:
    return {k: v for file in sorted(folder.glob("*.safetensors")) for k, v in load_file(file).items()}


def assert_equal_to_cut(found: Mapping[str, Tensor], groups: Groups, plan: Plan) -> None:
    module = cut_groups(groups, plan).module
    names = {n: groups.graph.aliases.get(n, n) for n in found}
    assert len(names) == len(set(names.values()))
    for name, own in names.items():
        if own in groups.graph.state:
            expected = fetch(module, own)
            assert found[name].dtype == expected.dtype and torch.equal(found[name], expected.detach()), name


@pytest.mark.parametrize("name", ZOO)
def test_every_network_of_the_zoo(name: str, tmp_path: Path) -> None:
    case = ZOO[name]
    model = case.model()
    groups = case.found(model)
    plan = random_free_plan(groups, 5)
    checkpoint = write(model, tmp_path / "dense")
    own = case.model()  # its buffers, as far as no checkpoint stores them
    if any(n in plan.kept for n in groups.graph.folded):
        with pytest.raises(sc.InputError, match="store the weight itself"):
            sc.cut_shards(own, plan, case.inputs(2), checkpoint, tmp_path / "cut")
        return
    result = sc.cut_shards(own, plan, case.inputs(2), checkpoint, tmp_path / "cut")
    found = read(tmp_path / "cut")
    assert_equal_to_cut(found, groups, plan)
    assert result.verification.max_relative_error < 1e-4
    assert {n for n in found if n in groups.graph.state} <= set(
        result.record["verification"]["equal_bit_for_bit"]
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shards_of_a_language_model(dtype: torch.dtype, tmp_path: Path) -> None:
    model = language(dtype=dtype)
    groups, plan = planned(model)
    checkpoint = write(model, tmp_path / "dense", files=3)
    result = sc.cut_shards(on_meta(dtype), plan, words(), checkpoint, tmp_path / "cut")
    found = read(tmp_path / "cut")
    assert sorted(found) == sorted(read(checkpoint))
    assert_equal_to_cut(found, groups, plan)
    # The root of the head size went into some queries, so this was no slicing alone.
    assert result.record["scaled"] and plan.kept
    index = json.loads((tmp_path / "cut" / INDEX).read_text())
    assert index["weight_map"] == json.loads((checkpoint / INDEX).read_text())["weight_map"]
    assert index["metadata"]["total_size"] == sum(t.numel() * t.element_size() for t in found.values())
    assert Plan.load(tmp_path / "cut" / "plan.json") == plan
    assert json.loads((tmp_path / "cut" / "cut.json").read_text()) == result.record


def test_the_record_says_what_was_run(tmp_path: Path) -> None:
    model = language()
    _, plan = planned(model)
    result = sc.cut_shards(on_meta(), plan, words(), write(model, tmp_path / "dense"), tmp_path / "cut")
    said = result.record["verification"]
    assert said["blocks_left_out"] == ["layers.1", "layers.2", "layers.3"]
    assert said["drawn_at_random"] == ["frequencies"]
    run = {n for n in read(tmp_path / "cut") if n.split(".")[1] not in "123"}
    assert set(said["equal_bit_for_bit"]) == run
    assert set(said["sliced_without_being_run"]) == set(read(tmp_path / "cut")) - run
    assert (
        said["cut_of_the_twin"]["nodes"] > 50
        and said["nodes_run_on_shapes"] > said["cut_of_the_twin"]["nodes"]
    )
    assert "bit for bit" in result.record["said"] and "were not run" in result.record["said"]


def test_what_comes_out_runs(tmp_path: Path) -> None:
    model = language()
    groups, plan = planned(model)
    result = sc.cut_shards(on_meta(), plan, words(), write(model, tmp_path / "dense"), tmp_path / "cut")
    state = {groups.graph.aliases.get(n, n): t for n, t in read(tmp_path / "cut").items()}
    frequencies = cut_groups(groups, plan).module.get_buffer("frequencies")
    result.module.load_state_dict({**state, "frequencies": frequencies}, assign=True)
    for node in result.module.graph.nodes:
        if node.kwargs.get("device") == torch.device("meta"):
            node.kwargs = {**node.kwargs, "device": torch.device("cpu")}
    result.module.recompile()
    torch.testing.assert_close(result.module(words()), sc.cut(model, plan, words())(words()))


def test_a_twin_of_the_callers_own(tmp_path: Path) -> None:
    model = language()
    groups, plan = planned(model)
    twin = language(2, vocabulary=8)
    before = {k: v.clone() for k, v in twin.state_dict().items()}
    result = sc.cut_shards(
        on_meta(), plan, words(vocabulary=8), write(model, tmp_path / "dense"), tmp_path / "cut", twin=twin
    )  # fmt: skip
    assert_equal_to_cut(read(tmp_path / "cut"), groups, plan)
    said = result.record["verification"]
    assert "Language, given by the caller" in said["twin"] and not said["drawn_at_random"]
    assert {n.split(".")[1] for n in said["equal_bit_for_bit"] if n.startswith("layers")} == {"0", "1"}
    assert all(torch.equal(v, before[k]) for k, v in twin.state_dict().items())


def test_removed_blocks_are_left_out(tmp_path: Path) -> None:
    model = language()
    groups, plan = planned(model)
    plan = Plan(
        plan.fingerprint,
        {n: axes for n, axes in plan.kept.items() if not n.startswith("layers.3.")},
        ("layers.3",),
        permuted={n: axes for n, axes in plan.permuted.items() if not n.startswith("layers.3.")},
    )
    sc.cut_shards(on_meta(), plan, words(), write(model, tmp_path / "dense"), tmp_path / "cut")
    found = read(tmp_path / "cut")
    assert not any(n.startswith("layers.3.") for n in found)
    assert_equal_to_cut(found, groups, plan)


def test_folded_factors_of_a_plan_are_applied(tmp_path: Path) -> None:
    model = Language(scale=INNER**-0.5).eval()
    groups, _ = planned(model)
    call = next(n.name for n in groups.graph.nodes if "scaled_dot_product" in str(n.target))
    plan = Plan(
        groups.graph.fingerprint, {}, folded=(Fold(call, ("query",), 1.25, {"scale": INNER**-0.5 / 1.25}),)
    )
    result = sc.cut_shards(model, plan, words(), write(model, tmp_path / "dense"), tmp_path / "cut")
    found = read(tmp_path / "cut")
    assert result.record["scaled"] == ["layers.0.q.weight"]
    assert torch.equal(found["layers.0.q.weight"], model.layers[0].q.weight.detach() * 1.25)
    assert_equal_to_cut(found, groups, plan)


def test_magnitude_of_a_checkpoint(tmp_path: Path) -> None:
    model = language()
    groups, _ = planned(model)
    checkpoint = sc.open_checkpoint(write(model, tmp_path / "dense", files=2))
    alone = on_meta()
    shapes = find_groups(trace(alone, words()))
    found = sc.score(alone, shapes, sc.Magnitude(), tensors=checkpoint)
    expected = sc.score(model, groups, sc.Magnitude())
    assert found.values.keys() == expected.values.keys()
    assert all((found.values[n] == expected.values[n]).all() for n in found.values)
    assert all((found.cells[n] == expected.cells[n]).all() for n in found.cells)


# -- refusals ----------------------------------------------------------------------------------------


def refused(tmp_path: Path, error: type[Exception], words_of_it: str, **changed: object) -> None:
    """The call fails with one line, and nothing is left beside the checkpoint."""
    before = sorted(p.name for p in tmp_path.iterdir())
    given = {
        "model": on_meta(), "plan": planned(language())[1], "example_inputs": words(),
        "checkpoint": tmp_path / "dense", "out": tmp_path / "cut", **changed,
    }  # fmt: skip
    with pytest.raises(error, match=words_of_it) as caught:
        sc.cut_shards(**given)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_a_checkpoint_that_lacks_a_tensor(tmp_path: Path) -> None:
    write(language(4), tmp_path / "dense", files=2)
    refused(tmp_path, sc.InputError, r"has no 'layers\.4\.norm1\.weight'")


def test_a_tensor_of_another_shape(tmp_path: Path) -> None:
    write(language(vocabulary=21), tmp_path / "dense")
    refused(tmp_path, sc.InputError, r"'embed\.weight' has shape \[21, 16\] in the checkpoint and \[20, 16\]")


def test_a_tensor_of_another_type(tmp_path: Path) -> None:
    write(language(dtype=torch.bfloat16), tmp_path / "dense")
    refused(tmp_path, sc.InputError, r"bfloat16 in the checkpoint .* model\.to\(torch\.bfloat16\)")


def test_a_plan_for_another_model(tmp_path: Path) -> None:
    write(language(), tmp_path / "dense")
    refused(tmp_path, sc.PlanError, "apply it to the model it was made for", plan=planned(language(4))[1])


def test_a_missing_shard(tmp_path: Path) -> None:
    write(language(), tmp_path / "dense", files=3)
    (tmp_path / "dense" / "model-00002-of-00003.safetensors").unlink()
    refused(tmp_path, sc.CorruptFile, "a shard is missing")


def test_a_truncated_shard(tmp_path: Path) -> None:
    file = write(language(), tmp_path / "dense") / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-40])
    refused(tmp_path, sc.CorruptFile, "truncated or was altered")


def test_an_index_that_leads_elsewhere(tmp_path: Path) -> None:
    write(language(), tmp_path / "dense", files=2)
    index = tmp_path / "dense" / INDEX
    data = json.loads(index.read_text())
    data["weight_map"]["norm.weight"] = "../model.safetensors"
    index.write_text(json.dumps(data))
    refused(tmp_path, sc.CorruptFile, "not a file beside it")


def test_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "dense").mkdir()
    refused(tmp_path, sc.InputError, "found none")


def test_a_folder_that_is_taken(tmp_path: Path) -> None:
    write(language(), tmp_path / "dense")
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "mine").write_text("mine")
    refused(tmp_path, sc.RunFolderError, "choose another")
    assert (tmp_path / "cut" / "mine").read_text() == "mine"


def test_inputs_without_values(tmp_path: Path) -> None:
    write(language(), tmp_path / "dense")
    refused(tmp_path, sc.InputError, "give some with values", example_inputs=words().to("meta"))


def test_a_twin_of_other_widths(tmp_path: Path) -> None:
    write(language(), tmp_path / "dense")
    twin = language(2)
    twin.layers[0].up = nn.Linear(16, 23, bias=False)
    refused(tmp_path, sc.InputError, "only along axes that the plan leaves alone", twin=twin)


def test_tensors_that_differ_from_the_twins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(language(), tmp_path / "dense")
    right = shards._Slicing.cut

    def wrong(self: shards._Slicing, name: str) -> Tensor:
        tensor = right(self, name)
        return tensor.flip(0) if name == "layers.4.down.weight" else tensor

    monkeypatch.setattr(shards._Slicing, "cut", wrong)
    refused(tmp_path, sc.NotVerified, "does not become what it becomes in the twin")
