"""The commands on a tiny network: what they print, write and return."""

from __future__ import annotations

import json
import os
import shutil
import sys

import pytest
import torch
import yaml

from tests.cli import tiny
from tests.cli.tiny import DATA, MODEL

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

LOOK = ("--model", MODEL, "--input", "1,1,8,8")
QUICK = ("--set", "schedule.rounds=1", "--set", "recovery.steps=1", "--set", "measure.seconds=0.1")
ASKED = ("--model", MODEL, "--data", DATA, "--budget", "params=0.5x", *QUICK)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with the module and a finished run in it, and what the command said."""
    from typer.testing import CliRunner

    from secateur.cli.app import app

    folder = tmp_path_factory.mktemp("finished")
    (folder / f"{tiny.NAME}.py").write_text(tiny.SOURCE)
    before, path = os.getcwd(), list(sys.path)
    os.chdir(folder)
    try:
        done = CliRunner().invoke(app, ["compress", *ASKED, "--out", "run"], prog_name="secateur")
    finally:
        os.chdir(before)
        sys.path[:] = path
        sys.modules.pop(tiny.NAME, None)
    return folder, done


@pytest.fixture
def run(finished, project):
    """A copy of the finished run in the current folder."""
    shutil.copytree(finished[0] / "run", project / "run")
    return project / "run"


def test_compress_ends_with_the_verdict(finished):
    folder, done = finished
    assert done.exit_code == 0, done.stderr
    verdict = json.loads((folder / "run" / "verdict.json").read_text())
    assert verdict["headline"] in done.stdout
    assert "report: run/report.html" in done.stdout
    assert done.stdout.splitlines()[-1] == "verdict: met"
    recipe = yaml.safe_load((folder / "run" / "recipe.yaml").read_text())
    assert (
        recipe["model"] == MODEL and recipe["recovery"]["steps"] == 1 and recipe["budget"]["params"] == "0.5x"
    )


def test_options_override_the_recipe_and_a_second_run_resumes(run, secateur):
    measured = (run / "measurements.jsonl").read_bytes()
    changed = yaml.safe_load((run / "recipe.yaml").read_text())
    changed["budget"] = {"params": "0.9x"}
    changed["recovery"]["steps"] = 7
    (run.parent / "mine.yaml").write_text(yaml.safe_dump(changed))
    done = secateur("compress", "mine.yaml", *ASKED, "--out", "run", "--quiet")
    assert done.exit_code == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1 and done.stderr == ""
    assert (run / "measurements.jsonl").read_bytes() == measured


def test_an_impossible_budget_is_infeasible(project, secateur):
    done = secateur("compress", *ASKED, "--budget", "macs=0.0001x", "--out", "run")
    assert done.exit_code == 4
    assert "cannot be met" in done.stderr.splitlines()[-1]


def test_analyze(project, secateur):
    done = secateur("analyze", *LOOK, "--json", "analysis.json")
    assert done.exit_code == 0, done.stderr
    assert "conv1.weight:0" in done.stdout and "it is an output of the model" in done.stdout
    assert "Suitability" not in done.stdout and "Sensitivity" not in done.stdout
    record = json.loads((project / "analysis.json").read_text())
    assert set(record) == {
        "params", "macs", "prunable_share", "weights", "groups", "locked", "blocks", "suitability", "sensitivity",
        "criterion", "depth", "forecast",
    }  # fmt: skip
    # conv1 16·9+16, norm 2·16, conv2 16·16·9+16, inner 16·24+24, head 24·4+4
    assert record["params"] == 160 + 32 + 2320 + 408 + 100
    assert record["macs"] == 64 * (16 * 9 + 16 * 16 * 9) + 16 * 24 + 24 * 4
    residual, inner = record["groups"]
    assert (residual["name"], residual["units"]) == ("conv1.weight:0", 16)
    assert residual["params"] == 160 + 32 + 2320 + 16 * 24
    assert (inner["name"], inner["units"], inner["params"]) == ("inner.weight:0", 24, 16 * 24 + 24 + 24 * 4)
    assert {"param": "head.weight", "axis": 1, "multiplicity": 1, "reads": True} in inner["axes"]
    assert {k: v for k, v in record["locked"][0].items() if k in ("param", "axis", "size", "params")} == {
        "param": "head.weight",
        "axis": 0,
        "size": 4,
        "params": 96,
    }
    assert [w["param"] for w in record["weights"]] == [
        f"{name}.weight" for name in ("conv1", "conv2", "inner", "head")
    ]


def test_analyze_tells_causes_most_parameters_first(project, secateur):
    done = secateur("analyze", *LOOK)
    printed = done.stdout[done.stdout.index("Locked, most parameters first") :].splitlines()
    # The head's 4 rows of 24 and its 4 biases: 100 of 3020 parameters.
    assert printed[1].split() == "3.3 % output: it is an output of the model: axis 1 of 'output'".split()
    assert "100 parameters in 2 axes: head.weight:0 (4 of 4), head.bias:0 (4 of 4)" in printed[2]
    assert printed[3].split()[0] == "code" and "tiny_project.py:" in printed[3] and "self.head(" in printed[3]
    assert printed[4].split()[:2] == ["to", "free"] and "--free-outputs output:1" in printed[4]


def test_analyze_draws(project, secateur):
    done = secateur("analyze", *LOOK, "--picture", "groups.svg")
    assert done.exit_code == 0, done.stderr
    assert "written: groups.svg" in done.stdout
    drawn = (project / "groups.svg").read_text()
    assert drawn.startswith("<svg") and MODEL in drawn
    assert not list(project.glob("*.part*"))


def test_outputs_can_be_set_free(project, secateur):
    done = secateur("analyze", *LOOK, "--free-outputs", "output:1", "--json", "free.json")
    assert done.exit_code == 0, done.stderr
    record = json.loads((project / "free.json").read_text())
    assert [(g["name"], g["units"]) for g in record["groups"]][-1] == ("head.weight:0", 4)
    assert not [lock for lock in record["locked"] if lock["operator"] == "output"]
    done = secateur("explain", *LOOK, "head.bias", "--free-outputs", "all")
    assert "group head.weight:0: 4 units" in done.stdout and "locked" not in done.stdout


def test_analyze_measures_what_each_group_costs(project, secateur):
    done = secateur("analyze", "--model", MODEL, "--data", DATA, "--json", "costs.json")
    assert done.exit_code == 0, done.stderr
    found = json.loads((project / "costs.json").read_text())["sensitivity"]
    assert [c["group"] for c in found["curves"]] == ["conv1.weight:0", "inner.weight:0"]
    assert all(c["removed"][0] == 0 and c["loss"][0] == found["loss"] for c in found["curves"])
    assert "Sensitivity, no training" in done.stdout and "inner.weight:0" in done.stdout
    assert secateur("analyze", "--model", MODEL, "--data", DATA, "--task", "nothing").exit_code == 2


def test_analyze_says_whether_pruning_pays(project, secateur):
    asked = ("--target", "onnxruntime:fp32", "--seconds", "2", "--against", MODEL, "--json", "pays.json")
    done = secateur("analyze", *LOOK, *asked)
    assert done.exit_code == 0, done.stderr
    record = json.loads((project / "pays.json").read_text())
    (fp32,) = record["suitability"]["dtypes"]
    assert fp32["ratio"] == 1.0 and fp32["dense_ms"] > 0 and 0 <= fp32["fixed"] <= 1
    assert record["suitability"]["verdict"] in ("prune", "leave")
    assert record["suitability"]["words"] in done.stdout
    assert record["against"]["model"] == MODEL and record["against"]["params"] == record["params"]
    assert record["against"]["latency_ratio"]["fp32"] > 0
    assert secateur("analyze", *LOOK, "--target", "torch:fp32").exit_code == 2


def test_analyze_chooses_the_runtime(project, secateur):
    pytest.importorskip("openvino")
    done = secateur("analyze", *LOOK, "--target", "auto:fp32", "--seconds", "2", "--json", "auto.json")
    assert done.exit_code == 0, done.stderr
    record = json.loads((project / "auto.json").read_text())
    chosen = [r for r in record["runtimes"] if r["chosen"]]
    assert [r["runtime"] for r in record["runtimes"]] == ["onnxruntime", "openvino"]
    assert len(chosen) == 1 and chosen[0]["ratio"] == min(r["ratio"] for r in record["runtimes"])
    assert record["suitability"]["runtime"] == chosen[0]["runtime"]
    assert "The model in every runtime here" in done.stdout


def test_analyze_a_pt2_file(run, secateur):
    secateur("export", "run", "--to", "pt2")
    done = secateur("analyze", "--model", "run/artifacts/model.pt2", "--input", "1,1,8,8", "--json", "a.json")
    assert done.exit_code == 0, done.stderr
    pruned = json.loads((run / "history.jsonl").read_text().splitlines()[-1])
    record = json.loads((run.parent / "a.json").read_text())
    assert record["params"] == pruned["params"]
    assert [g["name"] for g in record["groups"]] == ["conv1.weight:0", "inner.weight:0"]


@pytest.mark.parametrize(
    ("name", "there", "absent"),
    [
        # A unit of the residual stream: 9 + 1 + 2 + 9·16 + 9·15 + 1 + 24 parameters.
        (
            "conv2",
            ["group conv1.weight:0: 16 units; a unit costs 316 parameters", "bn1.running_mean"],
            "locked",
        ),
        ("inner.bias", ["group inner.weight:0", "head.weight"], "conv1.weight"),
        ("inner.weight:0", ["group inner.weight:0"], "conv1.weight"),
        ("head.bias", ["4 of 4", "it is an output of the model", "--free-outputs output:1"], "group"),
        ("output", ["head.weight:0", "keeps 100 parameters (3.3 %) and 96 multiply-adds"], "group"),
        (
            "conv1",
            ["tied by aten.add.Tensor at tiny_project.py:", "x + self.conv2", "reads the units"],
            "inner.bias",
        ),
        ("head", ["group inner.weight:0", "locked", "4 of 4"], "conv1.weight"),
    ],
)
def test_explain(project, secateur, name, there, absent):
    done = secateur("explain", *LOOK, name)
    assert done.exit_code == 0, done.stderr
    assert [words for words in there if words not in done.stdout] == []
    assert absent not in done.stdout


def test_sweep_and_going_on_from_one_of_its_plans(project, secateur):
    looked = (
        "sweep",
        "--model",
        MODEL,
        "--data",
        DATA,
        "--target",
        "onnxruntime:fp32",
        "--set",
        "measure.seconds=0.1",
    )
    asked = (
        *looked,
        "--kind",
        "params",
        "--budgets",
        "0.7x,0.5x,0.001x",
        "--measure",
        "1",
        "--out",
        "family",
    )
    done = secateur(*asked, "--json", "family.json")
    assert done.exit_code == 0, done.stderr
    record = json.loads((project / "family.json").read_text())
    assert record == json.loads((project / "family" / "sweep.json").read_text())
    assert [p["feasible"] for p in record["points"]] == [True, True, False]
    assert "cannot be met" in done.stdout and "accuracy, untrained" in done.stdout
    assert done.stdout.splitlines()[-2] == "plans: family/plans; page: family/sweep.html"
    assert secateur(*asked, "--quiet").stdout == "".join(done.stdout.splitlines(keepends=True)[:-1])

    small = record["points"][1]
    run = secateur("compress", *ASKED, "--plan", "family/plans/0.5x.json", "--out", "run", "--quiet")
    assert run.exit_code == 0, run.stderr
    (_, only) = [json.loads(text) for text in (project / "run" / "history.jsonl").read_text().splitlines()]
    assert only["params"] == small["params"]
    assert (project / "run" / "plan.json").read_text() == (
        project / "family" / "plans" / "0.5x.json"
    ).read_text()


def test_doctor(secateur):
    done = secateur("doctor", "--json")
    assert done.exit_code == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)["checks"]}
    assert {"python", "onnxruntime", "onnx", "onnx-int8", "pt2", "cpu", "cuda", "timm", "mlflow"} <= set(rows)
    for name in ("onnxruntime", "onnx", "onnx-int8", "pt2", "torch"):
        assert rows[name]["works"] and rows[name]["version"] and rows[name]["install"] is None


def test_doctor_says_what_to_install(secateur, monkeypatch):
    for name in ("onnx", "timm"):
        monkeypatch.setitem(sys.modules, name, None)
    rows = {row["name"]: row for row in json.loads(secateur("doctor", "--json").stdout)["checks"]}
    assert not rows["onnx"]["works"] and rows["onnx"]["install"] == "pip install 'secateur[onnx]'"
    assert not rows["timm"]["works"] and rows["timm"]["detail"] == "not installed"
    assert rows["pt2"]["works"]


def test_bench_of_a_run(run, secateur):
    done = secateur("bench", "run", "--seconds", "0.2", "--threads", "1", "--json", "bench.json")
    assert done.exit_code == 0, done.stderr
    records = json.loads((run.parent / "bench.json").read_text())
    assert records[0]["artifact"] == "run/dense/model.onnx" and records[0]["ratio"] is None
    assert {r["artifact"] for r in records} >= {"run/model.onnx", "run/model.int8.onnx"}
    for record in records[1:]:
        low, high = record["ratio_interval"]
        assert low <= record["ratio"] <= high and record["reference"] == "run/dense/model.onnx"


def test_bench_of_files(run, secateur):
    secateur("export", "run", "--to", "pt2")
    artifacts = ("run/artifacts/model.pt2", "run/artifacts/model.onnx")
    done = secateur("bench", *artifacts, "--seconds", "0.2", "--batch", "3", "--json", "b.json")
    assert done.exit_code == 0, done.stderr
    records = json.loads((run.parent / "b.json").read_text())
    assert [(r["artifact"], r["runtime"], r["batch"]) for r in records] == [
        ("model.pt2", "torch", 3),
        ("model.onnx", "onnxruntime", 3),
    ]
    wrong = secateur("bench", *artifacts, "--input", "1,1,9,9")
    assert wrong.exit_code == 2 and "does not fit" in wrong.stderr


def test_openvino_in_every_command(run, secateur):
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    done = secateur("export", "run", "--to", "openvino", "openvino-int8")
    assert done.exit_code == 0, done.stderr
    folder = run / "artifacts"
    after = {a["path"]: a for a in json.loads((run / "verdict.json").read_text())["artifacts"]}
    for name, dtype in (("model", "fp32"), ("model.int8", "int8")):
        entry = after[f"artifacts/{name}.xml"]
        files = [folder / f"{name}.xml", folder / f"{name}.bin"]
        assert (entry["runtime"], entry["dtype"]) == ("openvino", dtype)
        assert entry["bytes"] == sum(file.stat().st_size for file in files)
    artifacts = ("run/artifacts/model.onnx", "run/artifacts/model.xml", "run/artifacts/model.int8.xml")
    done = secateur("bench", *artifacts, "--seconds", "0.2", "--batch", "3", "--json", "b.json")
    assert done.exit_code == 0, done.stderr
    records = json.loads((run.parent / "b.json").read_text())
    assert [(r["runtime"], r["dtype"], r["batch"]) for r in records] == [
        ("onnxruntime", "fp32", 3),
        ("openvino", "fp32", 3),
        ("openvino", "int8", 3),
    ]
    rows = [r for r in json.loads(secateur("doctor", "--json").stdout)["checks"] if "openvino" in r["name"]]
    assert {(r["kind"], r["name"]) for r in rows} == {
        ("runtime", "openvino"),
        ("exporter", "openvino"),
        ("exporter", "openvino-int8"),
    }
    assert all(r["works"] and r["version"] for r in rows)


def test_export_adds_artifacts(run, secateur):
    before = json.loads((run / "verdict.json").read_text())["artifacts"]
    done = secateur("export", "run", "--to", "pt2", "onnx-int8")
    assert done.exit_code == 0, done.stderr
    after = {a["path"]: a for a in json.loads((run / "verdict.json").read_text())["artifacts"]}
    assert set(after) == {*(a["path"] for a in before), "artifacts/model.pt2"}
    added = after["artifacts/model.pt2"]
    assert (added["runtime"], added["bytes"]) == ("torch", (run / "artifacts" / "model.pt2").stat().st_size)
    assert added["max_relative_error"] <= 1e-5
    assert "model.pt2" in (run / "report.html").read_text()
    assert [p.name for p in (run / "artifacts").iterdir() if p.name.startswith(".")] == []


def test_export_of_a_run_from_python_objects(run, secateur):
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    (run / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "model": None, "data": None}))
    kept = (run / "verdict.json").read_bytes()
    refused = secateur("export", "run", "--to", "onnx-int8")
    assert refused.exit_code == 2 and "give --data" in refused.stderr
    assert (run / "verdict.json").read_bytes() == kept
    done = secateur("export", "run", "--to", "pt2")
    assert done.exit_code == 0 and "stored reference inputs" in done.stdout
    assert secateur("export", "run", "--to", "onnx-int8", "--data", DATA).exit_code == 0


def test_an_export_that_fails_the_gate_leaves_the_old_artifact(run, secateur, monkeypatch):
    from secateur import deploy
    from secateur.errors import ParityError

    def export(*arguments, **options):
        raise ParityError("model.onnx differs")

    monkeypatch.setattr(deploy, "export", export)
    kept = {p: p.read_bytes() for p in (run / "artifacts" / "model.onnx", run / "verdict.json")}
    done = secateur("export", "run", "--to", "onnx")
    assert done.exit_code == 1 and done.stderr == "error: model.onnx differs\n"
    assert all(path.read_bytes() == content for path, content in kept.items())


def test_export_of_an_altered_model_is_refused(run, secateur):
    with open(run / "model.safetensors", "r+b") as file:
        file.truncate(200)
    done = secateur("export", "run", "--to", "onnx")
    assert done.exit_code == 2 and "truncated or was altered" in done.stderr


def test_report(run, secateur):
    (run / "report.html").unlink()
    assert secateur("report", "run").exit_code == 0
    assert (run / "report.html").is_file()
    assert secateur("report", "run", "run").exit_code == 0
    assert (run.parent / "report.html").is_file()
    assert secateur("report", "run", "--out", "page.html").exit_code == 0
    assert (run.parent / "page.html").is_file()


def test_version_and_bare_command(secateur):
    import secateur as package

    assert secateur("--version").stdout == f"secateur {package.__version__}\n"
    bare = secateur()
    assert bare.exit_code == 0 and "compress" in bare.stdout


def test_the_demo_keeps_its_network_and_resumes(project, secateur, monkeypatch):
    """With a small network, and a pipeline that only notes what it is given."""
    from secateur import pipeline
    from secateur.cli import demo_model

    trained, given = [], []

    class Small(demo_model.DemoNet):
        def __init__(self):
            super().__init__(widths=(4, 8), blocks=(1, 1))

    def train(progress=None, **options):
        trained.append(1)
        torch.manual_seed(len(trained))
        progress(1, 1, 0.5)
        return Small().eval()

    def compress(model, data, **options):
        given.append((model.state_dict()["classifier.weight"].clone(), options))
        (project / "run").mkdir(exist_ok=True)
        (project / "run" / "recipe.yaml").write_text(yaml.safe_dump(options["recipe"].to_dict()))
        return pipeline.Run(project / "run", "missed", "The budget is missed by 3 %.", {"budgets": []})

    monkeypatch.setattr(demo_model, "DemoNet", Small)
    monkeypatch.setattr(demo_model, "train_demo_model", train)
    monkeypatch.setattr(pipeline, "compress", compress)
    for _ in range(2):
        done = secateur("demo", "--out", "run")
        assert done.exit_code == 3, done.stderr
        assert "The budget is missed by 3 %." in done.stdout
    assert len(trained) == 1 and torch.equal(given[0][0], given[1][0])
    budget = given[0][1]["recipe"].budget
    assert (budget.latency, budget.drop) == ("0.5x", "1.0")
    (project / "run.dense.safetensors").write_bytes(b"damaged")
    assert secateur("demo", "--out", "run").exit_code == 3
    assert len(trained) == 2
