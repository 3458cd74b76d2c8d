from __future__ import annotations

import pytest

from secateur.deploy import Target, runtimes
from secateur.errors import UnknownName


def test_targets_are_read_and_written() -> None:
    target = Target.parse("onnxruntime:auto")
    assert target == Target() and str(target) == "onnxruntime:auto"
    assert target.dtypes == ("fp32", "int8")
    assert Target.parse("onnxruntime:int8").dtypes == ("int8",)
    assert Target.parse("torch") == Target("torch", "fp32")


@pytest.mark.parametrize("text", ["openvino:int8", "onnxruntime:int4", "torch:int8", "", "executorch"])
def test_others_are_refused_with_the_choices(text: str) -> None:
    with pytest.raises(
        UnknownName, match=r"onnxruntime:auto, onnxruntime:fp32, onnxruntime:int8, torch:fp32"
    ):
        Target.parse(text)


def test_every_runtime_tells_its_version() -> None:
    assert set(runtimes) == {"onnxruntime", "torch"}
    for runtime in runtimes.values():
        assert runtime.available() == (runtime.version() is not None)
