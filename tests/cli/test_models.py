from __future__ import annotations

import sys
import types
from collections import OrderedDict

import pytest
import torch
import torchvision_ops
from safetensors.torch import save_file
from torch import nn

from secateur.cli import models
from secateur.cli.models import resolve_model
from secateur.errors import (
    CorruptFile,
    MissingExtra,
    NotFinite,
    RecipeError,
    RequestError,
    UnknownName,
    UnsafeFile,
)

SOURCE = """
import torch
from torch import nn

def build(width=4):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, 2)).train()

class Nested:
    build = staticmethod(build)

def fails():
    raise ValueError("first line\\nsecond line")

def damaged():
    model = build()
    model[0].weight.data[0, 0] = float("nan")
    return model

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = nn.Linear(4, 4)
        self.b.weight = self.a.weight

number = 3
text = lambda: "model"
"""


@pytest.fixture
def mine(here):
    (here / "my_models.py").write_text(SOURCE)
    return here


def state(width=4):
    return resolve_model("my_models:build", {"width": width}).state_dict()


def test_a_callable_in_the_current_folder(mine):
    model = resolve_model("my_models:build", {"width": 6})
    assert model[0].out_features == 6 and not model.training
    assert resolve_model("my_models:Nested.build")[0].out_features == 4
    assert isinstance(resolve_model("torch.nn:Linear", {"in_features": 2, "out_features": 3}), nn.Linear)


@pytest.mark.parametrize(
    ("name", "arguments", "kind", "words"),
    [
        ("my_models:biuld", {}, UnknownName, "did you mean build"),
        ("my_modles:build", {}, UnknownName, "no module 'my_modles'"),
        ("resnet18", {}, UnknownName, "none of the forms"),
        ("timm:", {}, UnknownName, "none of the forms"),
        ("my_models:build", {"wdith": 3}, RecipeError, "wdith"),
        ("my_models:fails", {}, RecipeError, "ValueError: first line$"),
        ("my_models:number", {}, RecipeError, "not callable"),
        ("my_models:text", {}, RecipeError, "gave str; an nn.Module is expected"),
        ("my_models:damaged", {}, NotFinite, "1 values of 0.weight"),
        ("torch.nn:LazyLinear", {"out_features": 3}, RecipeError, "lazy"),
        ("nowhere.pt2", {}, UnknownName, "no such file"),
        ("nowhere.pt2", {"a": 1}, RecipeError, "no --model-args"),
    ],
)
def test_wrong_names_are_told_in_one_line(mine, name, arguments, kind, words):
    with pytest.raises(kind, match=words) as raised:
        resolve_model(name, arguments)
    assert "\n" not in str(raised.value)


def test_modules_that_fail_are_told_apart_from_modules_that_are_missing(mine):
    (mine / "needs.py").write_text("import surely_not_there")
    with pytest.raises(RecipeError, match="needs the module 'surely_not_there'"):
        resolve_model("needs:build")
    (mine / "wrong.py").write_text("1 / 0")
    with pytest.raises(RecipeError, match="ZeroDivisionError"):
        resolve_model("wrong:build")


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_weights_are_loaded(mine, suffix):
    wanted = {k: torch.full_like(v, 2) for k, v in state().items()}
    path = mine / f"w.{suffix}"
    save_file(wanted, path) if suffix == "safetensors" else torch.save(wanted, path)
    found = resolve_model("my_models:build", weights=path).state_dict()
    assert all(torch.equal(found[k], wanted[k]) for k in wanted)


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict"])
def test_wrapped_and_prefixed_state_dicts(mine, wrapper):
    wanted = OrderedDict((f"module.{k}", torch.full_like(v, 2)) for k, v in state().items())
    torch.save({wrapper: wanted, "epoch": 3}, mine / "w.pth")
    assert float(resolve_model("my_models:build", weights="w.pth")[0].weight.detach()[0, 0]) == 2


class Anything:
    pass


def test_a_file_that_needs_unpickling_is_refused(mine):
    torch.save(Anything(), mine / "a.pth")
    torch.save(nn.Linear(2, 2), mine / "b.pth")
    torch.save(Anything(), mine / "c.pth", _use_new_zipfile_serialization=False)
    for name in ("a.pth", "b.pth", "c.pth"):
        with pytest.raises(UnsafeFile, match="never done") as raised:
            resolve_model("my_models:build", weights=name)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"not weights"])
def test_truncated_weights(mine, suffix, damage):
    path = mine / f"w.{suffix}"
    save_file(state(), path) if suffix == "safetensors" else torch.save(state(), path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CorruptFile, match="truncated") as raised:
        resolve_model("my_models:build", weights=path)
    assert "\n" not in str(raised.value)


def test_weights_that_do_not_fit_change_nothing_and_say_what(mine):
    given = state(width=5)
    del given["2.bias"]
    given["head.weight"] = torch.zeros(1)
    save_file(given, mine / "w.safetensors")
    words = (
        r"1 missing \(2.bias\); 1 not expected \(head.weight\); "
        r"7 of another shape \(0.weight is \(5, 3\) instead of \(4, 3\)"
    )
    with pytest.raises(CorruptFile, match=words) as raised:
        resolve_model("my_models:build", weights="w.safetensors")
    assert "and 4 more" in str(raised.value) and "\n" not in str(raised.value)


def test_weights_that_are_no_state_dict_or_are_not_there(mine):
    torch.save([torch.zeros(2)], mine / "list.pth")
    with pytest.raises(CorruptFile, match="no state dict"):
        resolve_model("my_models:build", weights="list.pth")
    with pytest.raises(UnknownName, match="no such file"):
        resolve_model("my_models:build", weights="nowhere.pth")


def test_nan_in_a_weight_file(mine):
    given = state()
    given["2.weight"] = torch.full_like(given["2.weight"], float("inf"))
    save_file(given, mine / "w.safetensors")
    with pytest.raises(NotFinite, match=r"2.weight"):
        resolve_model("my_models:build", weights="w.safetensors")


def test_tied_weights_may_be_stored_once(mine):
    save_file(
        {"a.weight": torch.ones(4, 4), "a.bias": torch.ones(4), "b.bias": torch.ones(4)},
        mine / "w.safetensors",
    )
    model = resolve_model("my_models:Tied", weights="w.safetensors")
    assert model.a.weight is model.b.weight and float(model.b.weight.detach()[0, 0]) == 1


def test_timm():
    torchvision_ops.define()
    pytest.importorskip("timm")
    model = resolve_model("timm:resnet18", {"num_classes": 7})
    assert model.fc.out_features == 7
    with pytest.raises(UnknownName, match="did you mean resnet18"):
        resolve_model("timm:resnet_18")
    with pytest.raises(RecipeError, match="surely_not"):
        resolve_model("timm:resnet18", {"surely_not": 7})


def test_torchvision():
    torchvision_ops.define()
    pytest.importorskip("torchvision")
    assert resolve_model("torchvision:squeezenet1_1", {"num_classes": 5}).classifier[1].out_channels == 5
    with pytest.raises(UnknownName, match="did you mean resnet18"):
        resolve_model("torchvision:resnet_18")


def test_huggingface_from_a_folder(here):
    torchvision_ops.define()
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        vocab_size=20,
        num_labels=3,
    )
    made = transformers.BertForSequenceClassification(config)
    made.save_pretrained(here / "small")
    model = resolve_model("hf:small")
    assert type(model).__name__ == "BertForSequenceClassification"
    assert torch.equal(model.classifier.weight, made.classifier.weight)

    weights = here / "small" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(CorruptFile, match="truncated"):
        resolve_model("hf:small")
    weights.unlink()
    with pytest.raises(CorruptFile, match=r"no \*.safetensors"):
        resolve_model("hf:small")
    torch.save(made.state_dict(), here / "small" / "pytorch_model.bin")
    with pytest.raises(UnsafeFile, match="unpickled"):
        resolve_model("hf:small")
    (here / "empty").mkdir()
    with pytest.raises(UnknownName, match=r"no config.json"):
        resolve_model("hf:empty")


@pytest.mark.parametrize("package", ["timm", "torchvision", "transformers"])
def test_missing_packages(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    scheme = {"transformers": "hf"}.get(package, package)
    with pytest.raises(MissingExtra, match=rf"needs {package}, .*pip install 'secateur\[{package}\]'"):
        resolve_model(f"{scheme}:something")


def test_a_torchvision_that_does_not_load_is_told_apart(monkeypatch):
    def broken(name):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setitem(sys.modules, "timm", types.ModuleType("timm"))
    monkeypatch.setattr("importlib.import_module", broken)
    with pytest.raises(MissingExtra, match=r"a torchvision that matches torch .*operator torchvision::nms"):
        models._loaded("timm", "model timm:resnet18")


def test_every_refusal_is_a_wrong_request():
    for kind in (UnknownName, MissingExtra, RecipeError, UnsafeFile, CorruptFile, NotFinite):
        assert issubclass(kind, RequestError) and kind.exit_status == 2
