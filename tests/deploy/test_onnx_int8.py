from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from secateur.deploy import OnnxInt8, calibration_inputs, check_parity, export_onnx, quantise_onnx, runtimes
from secateur.errors import DataError, NotFinite
from secateur.task import classification


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
def test_weights_are_int8_per_channel_and_the_metric_is_recorded(
    convs, images, onnx_file, tmp_path, method
) -> None:
    path = quantise_onnx(onnx_file, tmp_path / "q.onnx", calibration_inputs(images), OnnxInt8(method=method))
    graph = onnx.load(path).graph
    int8 = [t for t in graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 4]
    scales = {t.name: t for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    assert len(int8) == 2
    assert all(any(list(s.dims) == [t.dims[0]] for s in scales.values()) for t in int8)
    parity = check_parity(path, "onnxruntime", convs, images, classification(), limit=None)
    assert 0 < parity.max_relative_error < 0.2
    assert parity.metric_model is not None and 0 <= parity.metric_artifact <= 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "q.onnx"]


def test_the_batch_stays_free(convs: nn.Module, images, onnx_file: Path, tmp_path: Path) -> None:
    session = runtimes["onnxruntime"].load(
        quantise_onnx(onnx_file, tmp_path / "q.onnx", calibration_inputs(images))
    )
    assert session(torch.randn(3, 3, 8, 8)).shape == (3, 4)


def test_matrix_products_return_floats_and_residuals_between_convolutions_integers(
    images, onnx_file, tmp_path
) -> None:
    graph = onnx.load(quantise_onnx(onnx_file, tmp_path / "q.onnx", calibration_inputs(images))).graph
    consumers = {name: node for node in graph.node for name in node.input}
    outputs = {node.op_type: consumers.get(node.output[0]) for node in graph.node}
    assert outputs["Gemm"] is None  # the logits themselves
    assert outputs["Add"].op_type in {"Relu", "QuantizeLinear"}
    assert consumers[graph.input[0].name].op_type == "QuantizeLinear"


def test_token_ids_and_keyword_inputs(tokens: nn.Module, sentences, tmp_path: Path) -> None:
    inputs = calibration_inputs(sentences)
    source = export_onnx(tokens, inputs[0], tmp_path / "t.onnx")
    path = quantise_onnx(source, tmp_path / "t.int8.onnx", inputs)
    assert "QuantizeLinear" in operators(path)
    assert (
        check_parity(path, "onnxruntime", tokens, sentences, classification(), None).max_relative_error < 0.2
    )


def test_a_fixed_batch_is_calibrated_in_pieces(tmp_path: Path) -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(12, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x.reshape(1, 12))

    source = export_onnx(Fixed(), torch.randn(1, 3, 4), tmp_path / "f.onnx")
    path = quantise_onnx(source, tmp_path / "f.int8.onnx", [torch.randn(5, 3, 4)])
    assert runtimes["onnxruntime"].load(path)(torch.randn(7, 3, 4)).shape == (7, 3)


def test_calibration_takes_inputs_alone_and_no_more_than_asked(images) -> None:
    taken = calibration_inputs(images, samples=11)
    assert [len(t) for t in taken] == [8, 3]
    assert torch.equal(taken[0], images[0][0])


def test_bad_calibration_data_are_refused(onnx_file: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least one"):
        quantise_onnx(onnx_file, tmp_path / "q.onnx", [])
    with pytest.raises(DataError, match="loader gave none"):
        calibration_inputs([])
    with pytest.raises(NotFinite, match="'input'"):
        quantise_onnx(onnx_file, tmp_path / "q.onnx", [torch.full((2, 3, 8, 8), float("nan"))])
    with pytest.raises(DataError, match="lack the input"):
        quantise_onnx(onnx_file, tmp_path / "q.onnx", [{"x": torch.zeros(2, 3, 8, 8)}])
    assert not (tmp_path / "q.onnx").exists()
