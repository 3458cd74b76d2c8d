from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from secateur.deploy import (
    Artifact,
    calibration_inputs,
    check_parity,
    evaluate_artifact,
    export,
    export_onnx,
    files_of,
    formats,
    runtime_named,
)
from secateur.errors import DataError, ParityError, UnknownName
from secateur.task import Task, accuracy, classification


def test_the_error_is_relative_to_the_largest_output(convs: nn.Module, images, onnx_file: Path) -> None:
    shifted = copy.deepcopy(convs)
    with torch.no_grad():
        shifted.head.bias += 0.5
        largest = max(float(shifted(x).abs().max()) for x, _ in images)
    parity = check_parity(onnx_file, "onnxruntime", shifted, images, limit=None)
    assert parity.max_relative_error == pytest.approx(0.5 / largest, rel=1e-4)
    assert parity.metric_model is None
    with pytest.raises(ParityError, match=r"model\.onnx differs .* by 0\.\d+ .* at most 0\.001"):
        check_parity(onnx_file, "onnxruntime", shifted, images)


def test_metrics_are_those_of_model_and_artifact(convs: nn.Module, images, onnx_file: Path) -> None:
    with torch.no_grad():
        expected = accuracy(torch.cat([convs(x) for x, _ in images]), torch.cat([t for _, t in images]))
    parity = check_parity(onnx_file, "onnxruntime", convs, images, classification())
    assert parity.metric_model == parity.metric_artifact == expected
    metric, outputs, targets = evaluate_artifact(onnx_file, "onnxruntime", images, classification())
    assert metric == expected
    assert outputs.shape == (21, 4) and torch.equal(targets, torch.cat([t for _, t in images]))


def test_the_logits_are_found_by_name_where_they_are_not_first(
    tokens: nn.Module, sentences, tmp_path: Path
) -> None:
    path = export_onnx(tokens, calibration_inputs(sentences)[0], tmp_path / "t.onnx")
    task = Task(loss=nn.functional.cross_entropy, metric=accuracy)
    parity = check_parity(path, "onnxruntime", tokens, sentences, task)
    assert (
        parity.metric_artifact
        == parity.metric_model
        == evaluate_artifact(path, "onnxruntime", sentences, task).metric
    )


def test_outputs_that_are_not_finite_or_of_another_shape_are_refused(images, tmp_path: Path) -> None:
    class Log(nn.Module):
        def __init__(self, sign: float, width: int = 4) -> None:
            super().__init__()
            self.sign, self.width = sign, width

        def forward(self, x: Tensor) -> Tensor:
            return torch.log(self.sign * (x.flatten(1)[:, : self.width].abs() + 1))

    x = images[0][0]
    nan = export_onnx(Log(-1.0), x, tmp_path / "nan.onnx")
    wide = export_onnx(Log(1.0, 5), x, tmp_path / "wide.onnx")
    with pytest.raises(ParityError, match="not finite"):
        check_parity(nan, "onnxruntime", Log(1.0), images, limit=None)
    with pytest.raises(ParityError, match="shape"):
        check_parity(wide, "onnxruntime", Log(1.0), images, limit=None)


def test_infinities_that_agree_are_no_difference(images, tmp_path: Path) -> None:
    class Masked(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.where(x > 0, x, float("-inf"))

    path = export_onnx(Masked(), images[0][0], tmp_path / "m.onnx")
    assert check_parity(path, "onnxruntime", Masked(), images).max_relative_error == 0


def test_no_batches_are_no_proof(convs: nn.Module, onnx_file: Path) -> None:
    with pytest.raises(DataError):
        check_parity(onnx_file, "onnxruntime", convs, [])
    with pytest.raises(DataError):
        evaluate_artifact(onnx_file, "onnxruntime", [], classification())
    with pytest.raises(UnknownName, match="onnxruntime, openvino, torch"):
        check_parity(onnx_file, "coreml", convs, [])


@pytest.mark.parametrize("name", list(formats))
def test_every_format_goes_through_the_gate(convs: nn.Module, images, tmp_path: Path, name: str) -> None:
    if not runtime_named(formats[name].runtime).available():
        pytest.skip(f"{formats[name].runtime} is not installed")
    artifact = export(
        convs,
        images[0][0][:1],
        name,
        tmp_path,
        images,
        classification(),
        calibration=calibration_inputs(images),
    )
    assert artifact.path == tmp_path / formats[name].filename
    assert artifact.bytes == sum(file.stat().st_size for file in tmp_path.iterdir())
    assert artifact.max_relative_error < 0.1 and artifact.metric is not None
    assert Artifact.from_json(artifact.to_json()) == artifact
    assert set(tmp_path.iterdir()) == set(files_of(artifact.path))


def test_an_artifact_that_does_not_pass_is_removed(convs: nn.Module, images, tmp_path: Path) -> None:
    def other(model: nn.Module, inputs: Tensor, path: Path, calibration: object) -> Path:
        twin = copy.deepcopy(model)
        nn.init.zeros_(twin.head.weight)
        return export_onnx(twin, inputs, path)

    from dataclasses import replace

    with pytest.raises(ParityError):
        export(convs, images[0][0], replace(formats["onnx"], write=other), tmp_path, images)
    assert not list(tmp_path.iterdir())


def test_wrong_requests_name_the_choices(convs: nn.Module, images, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="onnx, onnx-int8, openvino, openvino-int8, pt2"):
        export(convs, images[0][0], "tflite", tmp_path, images)
    with pytest.raises(DataError, match="calibration"):
        export(convs, images[0][0], "onnx-int8", tmp_path, images)
