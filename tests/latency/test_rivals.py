"""The runtime chosen by measurement, on a device whose times are made up."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from secateur.bench import Effort, Entry, FakeDevice
from secateur.deploy import Exporter, OnnxRuntime, OpenVinoRuntime, Target
from secateur.errors import NotExportable, RunFolderError
from secateur.latency import RuntimeChoice, choose_runtime

X = torch.zeros(1, 3)
QUICK = Effort(min_turns=3, max_turns=3)
TIMES = {
    ("onnxruntime", "fp32"): 4.0,
    ("onnxruntime", "int8"): 3.0,
    ("openvino", "fp32"): 2.0,
    ("openvino", "int8"): 5.0,
}


@pytest.fixture(autouse=True)
def both_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OnnxRuntime, "available", lambda self: True)
    monkeypatch.setattr(OpenVinoRuntime, "available", lambda self: True)


def chosen(target: str, folder: Path, refused: tuple[str, ...] = ()) -> RuntimeChoice:
    def export(exporter: Exporter) -> Path:
        if exporter.name in refused:
            raise NotExportable("no form for it")
        path = folder / exporter.filename
        for file in (path, path.with_suffix(".bin")):
            file.write_bytes(b"four")
        return path

    def times(entry: Entry, turn: int) -> float:
        return TIMES[entry.runtime, entry.dtype]

    return choose_runtime(Target.parse(target), export, X, device=FakeDevice(times), threads=1, effort=QUICK)


def test_the_fastest_of_all_is_chosen_and_all_are_told(tmp_path: Path) -> None:
    found = chosen("auto", tmp_path)
    assert found.target == Target("openvino", "auto")
    assert [(r.runtime, r.dtype, r.ratio) for r in found.rivals] == [
        ("onnxruntime", "fp32", 1.0),
        ("onnxruntime", "int8", 0.75),
        ("openvino", "fp32", 0.5),
        ("openvino", "int8", 1.25),
    ]
    assert [r["chosen"] for r in found.to_json()] == [False, False, True, False]
    assert [r.size_bytes for r in found.rivals] == [4, 4, 8, 8]
    assert {m.phase for m in found.timings} == {"runtime"}


def test_only_the_dtype_that_is_asked_for_decides(tmp_path: Path) -> None:
    found = chosen("auto:int8", tmp_path)
    assert found.target == Target("onnxruntime", "int8") and len(found.rivals) == 4
    assert [(r.runtime, r.dtype) for r in chosen("auto:fp32", tmp_path).rivals] == [
        ("onnxruntime", "fp32"),
        ("openvino", "fp32"),
    ]


def test_a_runtime_that_does_not_take_the_model_is_told_and_left_out(tmp_path: Path) -> None:
    found = chosen("auto", tmp_path, refused=("openvino", "openvino-int8"))
    assert found.target == Target("onnxruntime", "auto")
    assert [r.obstacle for r in found.rivals] == ["", "", "no form for it", "no form for it"]
    assert chosen("auto", tmp_path, refused=("onnx",)).rivals[1].ratio == 1.0  # the first that was measured
    with pytest.raises(NotExportable, match="no form for it"):
        chosen("auto:int8", tmp_path, refused=("onnx-int8", "openvino-int8"))


def test_other_errors_are_not_taken_for_an_answer(tmp_path: Path) -> None:
    def export(exporter: Exporter) -> Path:
        raise RunFolderError("the disk is full")

    with pytest.raises(RunFolderError):
        choose_runtime(Target.parse("auto"), export, X, device=FakeDevice(lambda e, t: 1.0), effort=QUICK)
