from __future__ import annotations

import pytest

from secateur.deploy import OpenVinoRuntime, Target, runtimes, targets
from secateur.deploy.runtime import OnnxRuntime
from secateur.errors import MissingExtra, UnknownName


def test_targets_are_read_and_written() -> None:
    target = Target.parse("onnxruntime:auto")
    assert target == Target() and str(target) == "onnxruntime:auto"
    assert target.dtypes == ("fp32", "int8")
    assert Target.parse("onnxruntime:int8").dtypes == ("int8",)
    assert Target.parse("torch") == Target("torch", "fp32")
    assert Target.parse("openvino") == Target("openvino", "auto")
    assert all(Target.parse(str(known)) == known for known in targets())


def test_auto_leaves_the_runtime_open_and_the_dtype_where_none_is_named() -> None:
    assert Target.parse("auto") == Target("auto", "auto") and str(Target.parse("auto")) == "auto"
    fp32 = Target.parse("auto:fp32")
    assert fp32.open and fp32.dtypes == ("fp32",) and str(fp32) == "auto:fp32"
    assert Target().rivals() == (Target(),) and not Target().open


def test_rivals_are_the_runtimes_that_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OnnxRuntime, "available", lambda self: True)
    monkeypatch.setattr(OpenVinoRuntime, "available", lambda self: True)
    assert Target.parse("auto:int8").rivals() == (Target("onnxruntime", "int8"), Target("openvino", "int8"))
    monkeypatch.setattr(OpenVinoRuntime, "available", lambda self: False)
    assert Target.parse("auto").rivals() == (Target(),)
    monkeypatch.setattr(OnnxRuntime, "available", lambda self: False)
    with pytest.raises(MissingExtra, match="the target auto needs onnxruntime"):
        Target.parse("auto").rivals()


@pytest.mark.parametrize("text", ["openvino:int4", "onnxruntime:int4", "torch:int8", "", "executorch"])
def test_others_are_refused_with_the_choices(text: str) -> None:
    choices = (
        "onnxruntime:auto, onnxruntime:fp32, onnxruntime:int8, openvino:auto, openvino:fp32, openvino:int8, "
        "torch:fp32, auto, auto:fp32, auto:int8"
    )
    with pytest.raises(UnknownName, match=choices):
        Target.parse(text)


def test_every_runtime_tells_its_version() -> None:
    assert set(runtimes) == {"onnxruntime", "openvino", "torch"}
    for runtime in runtimes.values():
        assert runtime.available() == (runtime.version() is not None)
        assert runtime.available() or runtime.extra is not None
