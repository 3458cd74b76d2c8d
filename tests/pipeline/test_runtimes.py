"""INT8 beside its fp32 twin, and runs whose runtime is left open."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

import secateur as sc
from secateur.bench import Entry, FakeDevice
from secateur.deploy import Artifact, Target, is_whole
from secateur.pipeline.twins import eligible, fp32_ratio
from tests.pipeline import small


def go(out: Path, target: str, device: FakeDevice, budget: sc.Budget | None = None) -> sc.Run:
    return sc.compress(
        small.network(),
        (small.batches(), small.batches(4, seed=2)),
        recipe=small.recipe(budget or sc.Budget(params="0.6x", drop=90.0), target=target),
        out=out,
        device=device,
        quiet=True,
    )


def slow_int8(entry: Entry, turn: int) -> float:
    """INT8 takes a quarter more than fp32, and OpenVINO half of what ONNX Runtime takes."""
    return (1.25 if entry.dtype == "int8" else 1.0) * (0.5 if entry.runtime == "openvino" else 1.0)


def artifact(name: str, dtype: str, runtime: str = "onnxruntime") -> Artifact:
    return Artifact(Path(name), runtime, dtype, 1, 0.0, None, name)


def timing(name: str, ratio: float | None) -> dict[str, object]:
    return {"artifact": name, "ratio": ratio}


def test_where_the_dtype_is_open_slower_int8_is_no_candidate() -> None:
    both = [artifact("pruned-fp32", "fp32"), artifact("pruned-int8", "int8")]
    slower = [timing("pruned-fp32", 0.5), timing("pruned-int8", 0.6)]
    faster = [timing("pruned-fp32", 0.5), timing("pruned-int8", 0.4)]
    assert eligible(Target(), both, slower) == both[:1]
    assert eligible(Target(), both, faster) == both
    assert eligible(Target("onnxruntime", "int8"), both, slower) == both[1:]
    assert fp32_ratio(both[1], both, slower) == pytest.approx(1.2)
    assert fp32_ratio(both[0], both, slower) is None
    assert fp32_ratio(both[1], both[1:], slower) is None
    assert fp32_ratio(artifact("dense-int8", "int8"), both, slower) is None


def test_int8_that_was_asked_for_and_is_slower_says_so(tmp_path: Path) -> None:
    run = go(tmp_path / "run", "onnxruntime:int8", FakeDevice(slow_int8))
    said = {a["name"]: a for a in run.record["artifacts"]}
    assert run.record["target"] == "onnxruntime:int8" and said["pruned-int8"]["final"]
    for name in ("dense-int8", "pruned-int8"):
        assert said[name]["slower_than_fp32"] is True
        assert said[name]["fp32_ratio"] == pytest.approx(1.25)
    assert "slower_than_fp32" not in said["pruned-fp32"]
    assert "int8 is 1.25 times slower than fp32 here" in run.headline
    assert run.record["runtimes"] == []


def test_the_runtime_is_chosen_and_the_report_says_how(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    device = FakeDevice(slow_int8)
    run = go(tmp_path / "run", "auto", device)
    assert run.record["target"] == "openvino:fp32"
    told = {(r["runtime"], r["dtype"]): r for r in run.record["runtimes"]}
    assert told["openvino", "fp32"]["chosen"] and told["openvino", "int8"]["ratio"] == pytest.approx(0.625)
    assert {a["runtime"] for a in run.record["artifacts"]} == {"openvino"}
    assert all(is_whole(run.folder / a["path"]) for a in run.record["artifacts"])
    phases = [json.loads(line) for line in (run.folder / "measurements.jsonl").read_text().splitlines()]
    assert sum(m["phase"] == "runtime" for m in phases) == 4
    page = (run.folder / "report.html").read_text()
    assert "The runtime was chosen by measurement" in page and "openvino fp32" in page
    opened = device.opened
    again = go(tmp_path / "run", "auto", device)  # resumed: nothing is measured anew
    assert again.record["target"] == "openvino:fp32" and device.opened == opened
