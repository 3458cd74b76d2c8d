"""Each wrong input is one clear line on standard error, exit status 2, and nothing is written."""

from __future__ import annotations

import os

import pytest
import torch
from safetensors.torch import save_file

from secateur import Plan
from secateur.cli.objects import import_object
from tests.cli.tiny import DATA, MODEL, NAME

GOOD = ("compress", "--model", MODEL, "--data", DATA, "--budget", "macs=0.5x", "--out", "run")
LOOK = ("--model", MODEL, "--input", "1,1,8,8")
FAMILY = ("sweep", *LOOK, "--out", "family")
OTHER_MODEL = ("compress", "--data", DATA, "--budget", "macs=0.5x", "--out", "run", "--model")
OTHER_DATA = ("compress", "--model", MODEL, "--budget", "macs=0.5x", "--out", "run", "--data")
OTHER_BUDGET = ("compress", "--model", MODEL, "--data", DATA, "--out", "run", "--budget")


def tree(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if "__pycache__" not in p.parts)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        # models
        ((*OTHER_MODEL, f"{NAME}:biuld"), "did you mean build"),
        ((*OTHER_MODEL, "no_such_module:build"), "no module 'no_such_module'"),
        ((*OTHER_MODEL, "resnet18"), "none of the forms"),
        ((*OTHER_MODEL, "missing.pt2"), "no such file"),
        ((*OTHER_MODEL, f"{NAME}:damaged"), "conv1.weight are NaN"),
        ((*GOOD, "--model-args", "{"), "--model-args { is no JSON"),
        ((*GOOD, "--model-args", "[3]"), "JSON object"),
        ((*GOOD, "--model-args", '{"wdith": 3}'), "wdith"),
        ((*GOOD, "--weights", "missing.pth"), "there is no such file"),
        ((*GOOD, "--weights", "pickled.pth"), "would have to be unpickled"),
        ((*GOOD, "--weights", "short.safetensors"), "truncated"),
        ((*GOOD, "--weights", "nan.safetensors"), "NaN"),
        # data and task
        ((*OTHER_DATA, "dgits"), "did you mean digits"),
        ((*OTHER_DATA, "imagefolder:missing"), "missing"),
        ((*OTHER_DATA, f"{NAME}:dta"), "did you mean data"),
        ((*GOOD, "--data-option", "samples"), "--data-option NAME=VALUE"),
        ((*GOOD, "--data-option", "sampels=3"), "sampels"),
        ((*GOOD, "--task", "regression"), "neither 'classification'"),
        # budgets and where to
        ((*GOOD, "--budget", "macs=0.6x"), "contradictory budgets: macs=0.5x and macs=0.6x"),
        ((*GOOD, "--minimise", "latency"), "minimise=latency goes with drop="),
        ((*OTHER_BUDGET, "laetncy=0.5x"), "did you mean latency"),
        ((*OTHER_BUDGET, "macs"), "--budget macs=0.5x"),
        ((*OTHER_BUDGET, "macs=0.5q"), "unknown unit 'q'"),
        ((*OTHER_BUDGET, "macs=1.5x"), "more than the dense model"),
        (("compress", "--model", MODEL, "--data", DATA, "--out", "run"), "no budget was given"),
        ((*GOOD, "--target", "tensorrt:int8"), "no target tensorrt:int8"),
        ((*GOOD, "--device", "phone"), "device=phone"),
        ((*GOOD, "--seed", "x"), "--seed"),
        ((*GOOD, "--free-outputs", "logits:1"), "returns nothing called 'logits'"),
        ((*GOOD, "--set", "free_outputs=[logits]"), "free_outputs must be bool or dict"),
        # recipes
        (("compress", "missing.yaml", "--out", "run"), "cannot read the recipe missing.yaml"),
        (("compress", "broken.yaml", "--out", "run"), "broken.yaml is no YAML"),
        (("compress", "list.yaml", "--out", "run"), "must hold a mapping"),
        (("compress", "unknown.yaml", "--out", "run"), "has no option 'budgett'"),
        (("compress", "nested.yaml", "--out", "run"), "recovery has no option 'epoch'"),
        (("compress", "nothing.yaml", "--out", "run"), "no model is given"),
        ((*GOOD, "--set", "recovery.epochs"), "--set NAME=VALUE"),
        ((*GOOD, "--set", "recovery.epochs=many"), "recovery: epochs must be int"),
        ((*GOOD, "--set", "seed.deep=1"), "seed"),
        ((*GOOD, "--set", "seed=1", "--set", "seed=2"), "given twice"),
        # output folders
        ((*GOOD, "--out", "foreign"), "foreign holds notes.txt and no run"),
        ((*GOOD, "--out", "pickled.pth"), "is a file"),
        ((*GOOD, "--out", "pickled.pth/run"), "is a file"),
        (("demo", "--out", "foreign"), "foreign holds notes.txt and no run"),
        # looking
        (("analyze", "--model", MODEL), "give --input SHAPE"),
        (("analyze", "--model", MODEL, "--input", "3,a"), "cannot read the shape"),
        (("analyze", *LOOK, "--json", "foreign"), "foreign is a folder"),
        (("analyze", *LOOK, "--picture", "foreign"), "name of a file for --picture"),
        (("analyze", *LOOK, "--free-outputs", "logits"), "returns nothing called 'logits'"),
        (("analyze", *LOOK, "--free-outputs", "output:0"), "is the batch and keeps its size"),
        (("explain", *LOOK, "head", "--free-outputs", "output:x"), "cannot read --free-outputs output:x"),
        (("analyze", *LOOK, "--target", "onnxruntime:int4"), "no target onnxruntime:int4"),
        (("explain", *LOOK, "conv1.wieght"), "did you mean conv1.weight"),
        (("explain", *LOOK, "zzz"), "called 'zzz'"),
        (("explain", *LOOK, "conv1.weight:7"), "called 'conv1.weight:7'"),
        # artifacts and runs
        (("bench", "missing.onnx"), "there is no file"),
        (("bench", "broken.onnx"), "cannot read broken.onnx"),
        (("bench", "broken.yaml"), "is no artifact"),
        (("bench", "foreign"), "holds no artifacts"),
        (("bench", "broken.onnx", "--device", "phone"), "no device 'phone'"),
        (("export", "foreign", "--to", "onnx"), "no finished run"),
        (("export", "missing", "--to", "onnx"), "is no folder"),
        (("export", "foreign", "--to", "tflite"), "no format 'tflite'"),
        (("export", "foreign"), "no format is given"),
        (("report", "foreign"), "no records of a run"),
        # sweeps
        ((*FAMILY, "--budgets", "0.5x,half"), "cannot read the budget latency=half"),
        ((*FAMILY, "--budgets", "1.5x"), "more than the dense model"),
        ((*FAMILY, "--budgets", ","), "no budget was given"),
        ((*FAMILY, "--budgets", "0.5x", "--points", "3"), "give one of them"),
        ((*FAMILY, "--points", "1"), "must lie between 2 and 100"),
        ((*FAMILY, "--kind", "energy"), "kind=energy is not one of latency"),
        ((*FAMILY, "--measure", "some"), "cannot read --measure some"),
        ((*FAMILY, "--criterion", "vibes"), "criterion=vibes is not one of"),
        ((*FAMILY, "--criterion", "taylor"), "is computed on data"),
        ((*FAMILY, "--criterion", "auto"), "is computed on data"),
        ((*GOOD, "--criterion", "vibes"), "criterion=vibes is not one of"),
        ((*GOOD, "--criterion", "auto", "--set", "criterion.name=taylor"), "given twice"),
        ((*GOOD, "--criterion", "auto", "--plan", "other.json"), "nothing to rank"),
        ((*FAMILY, "--target", "tensorrt:int8"), "no target tensorrt:int8"),
        ((*FAMILY, "--json", "foreign"), "foreign is a folder"),
        ((*FAMILY, "--out", "foreign"), "foreign is not empty and holds no run"),
        (("sweep", "--model", MODEL), "give --input SHAPE"),
        # plans
        ((*GOOD, "--plan", "missing.json"), "cannot read the plan missing.json"),
        ((*GOOD, "--plan", "broken.yaml"), "truncated or no JSON"),
        ((*GOOD, "--plan", "other.json"), "is for a model with fingerprint"),
        ((*OTHER_BUDGET, "drop=1.0", "--plan", "other.json"), "plan= goes with the cost budget"),
        # the command line itself
        (("compres",), "No such command 'compres'"),
        (("analyze",), "Missing option '--model'"),
        (("compress", "--nonsense"), "--nonsense"),
        (("report",), "Missing argument"),
    ],
)
def test_one_line_status_two_and_nothing_written(project, secateur, arguments, words):
    torch.save({"model": torch.nn.Linear(2, 2)}, "pickled.pth")
    weights = {"conv1.weight": torch.zeros(16, 1, 3, 3)}
    save_file(weights, "short.safetensors")
    with open("short.safetensors", "r+b") as file:
        file.truncate(100)
    state = import_object(MODEL, "model")().state_dict()
    state["head.bias"][0] = float("nan")
    save_file(state, "nan.safetensors")
    (project / "broken.onnx").write_bytes(b"no model")
    (project / "broken.yaml").write_text("model: [mine\n")
    (project / "list.yaml").write_text("- model\n")
    (project / "unknown.yaml").write_text(f"model: {MODEL}\nbudgett: {{macs: 0.5x}}\n")
    (project / "nested.yaml").write_text("budget: {macs: 0.5x}\nrecovery: {epoch: 3}\n")
    (project / "nothing.yaml").write_text("budget: {macs: 0.5x}\n")
    Plan("of another model", {}).save(project / "other.json")
    (project / "foreign").mkdir()
    (project / "foreign" / "notes.txt").write_text("mine")
    before = tree(project)

    done = secateur(*arguments)

    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: ")
    assert words in done.stderr
    assert tree(project) == before


def test_a_read_only_folder(project, secateur):
    if os.geteuid() == 0:
        pytest.skip("the superuser may write anywhere")
    (project / "fixed").mkdir(mode=0o500)
    done = secateur(*GOOD, "--out", "fixed/run")
    assert done.exit_code == 2 and "read-only" in done.stderr and not list((project / "fixed").iterdir())


def test_a_folder_that_cannot_be_written_according_to_the_system(project, secateur, monkeypatch):
    """As above, for the superuser too."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    done = secateur(*GOOD)
    assert done.exit_code == 2 and "read-only" in done.stderr and not (project / "run").exists()


def test_a_run_of_another_recipe_is_left_alone(project, secateur):
    import yaml

    from secateur.recipe import recipe_from

    recipe = recipe_from({"model": MODEL, "data": DATA, "budget": {"macs": "0.7x"}})
    (project / "run").mkdir()
    (project / "run" / "recipe.yaml").write_text(yaml.safe_dump(recipe.to_dict()))
    done = secateur(*GOOD)
    assert done.exit_code == 2 and "another recipe (budget.macs: 0.7x there, 0.5x asked)" in done.stderr
    assert tree(project / "run") == ["recipe.yaml"]


def test_a_missing_extra_says_what_to_install(project, secateur, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "timm", None)
    done = secateur("analyze", "--model", "timm:resnet18")
    assert done.exit_code == 2 and "pip install 'secateur[timm]'" in done.stderr
