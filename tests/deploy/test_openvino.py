"""OpenVINO artifacts: two files that are one, fp32 that is fp32, INT8 where it pays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("openvino")

from secateur.deploy import (
    OpenVinoInt8,
    calibration_inputs,
    check_parity,
    export_onnx,
    export_openvino,
    files_of,
    is_whole,
    move,
    remove,
    runtimes,
    size_of,
)
from secateur.deploy.openvino_export import read_network
from secateur.deploy.openvino_int8 import has_attention, settled
from secateur.errors import CorruptFile, DataError, InputError, NotFinite
from secateur.task import classification

RUNTIME = runtimes["openvino"]


@pytest.fixture
def network(convs: nn.Module, tmp_path: Path) -> Path:
    return export_openvino(convs, torch.zeros(1, 3, 8, 8), tmp_path / "model.xml")


def kinds(path: Path) -> list[str]:
    import openvino

    return [op.get_type_name() for op in openvino.Core().read_model(str(path)).get_ops()]


def test_it_says_what_the_model_says_whatever_the_batch(convs: nn.Module, network: Path, images) -> None:
    assert check_parity(network, "openvino", convs, images).max_relative_error < 1e-5
    assert RUNTIME.load(network)(torch.randn(3, 3, 8, 8)).shape == (3, 4)


def test_keywords_and_two_outputs_keep_their_names(tokens: nn.Module, sentences, tmp_path: Path) -> None:
    path = export_openvino(tokens, calibration_inputs(sentences)[0], tmp_path / "t.xml")
    assert check_parity(path, "openvino", tokens, sentences, classification()).max_relative_error < 1e-5
    outputs = RUNTIME.load(path)(**calibration_inputs(sentences)[0])
    assert list(outputs) == ["hidden", "logits"]


def test_a_fixed_batch_is_split(tmp_path: Path) -> None:
    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(1, 12) * 2

    path = export_openvino(Fixed(), torch.randn(1, 3, 4), tmp_path / "f.xml")
    x = torch.randn(5, 3, 4)
    assert torch.allclose(RUNTIME.load(path)(x), 2 * x.reshape(5, 12))


def test_an_output_that_is_given_twice_stays_two(tmp_path: Path) -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = torch.relu(x)
            return y, y

    path = export_openvino(Twice(), torch.randn(2, 4), tmp_path / "twice.xml")
    outputs = RUNTIME.load(path)(torch.ones(3, 4))
    assert len(outputs) == 2 and all(torch.equal(v, torch.ones(3, 4)) for v in outputs.values())


def test_two_files_are_one_artifact(convs: nn.Module, network: Path, tmp_path: Path) -> None:
    weights = tmp_path / "model.bin"
    assert files_of(network) == (weights, network) and files_of(tmp_path / "m.onnx") == (tmp_path / "m.onnx",)
    assert size_of(network) == weights.stat().st_size + network.stat().st_size
    assert weights.stat().st_size >= 4 * sum(p.numel() for p in convs.parameters()) - 4 * 64
    moved = move(network, tmp_path / "other.xml")
    assert is_whole(moved) and not is_whole(network) and not weights.exists()
    assert RUNTIME.load(moved)(torch.zeros(1, 3, 8, 8)).shape == (1, 4)
    remove(moved)
    assert list(tmp_path.iterdir()) == []


def test_nothing_of_where_it_was_made_is_in_the_file(network: Path, tmp_path: Path) -> None:
    assert str(tmp_path) not in network.read_text() and "secateur-" not in network.read_text()


def test_files_that_cannot_be_read_are_told(network: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.xml").write_text("<net>")
    (tmp_path / "bad.bin").write_bytes(b"")
    with pytest.raises(CorruptFile, match=r"OpenVINO cannot read .*bad\.xml: \w+"):
        RUNTIME.load(tmp_path / "bad.xml")
    with pytest.raises(InputError, match=r"takes the input 'input'; got \['x'\]"):
        RUNTIME.load(network)(x=torch.zeros(1, 3, 8, 8))
    with pytest.raises(InputError, match="does not take these inputs"):
        RUNTIME.load(network)(torch.zeros(1, 5, 8, 8))
    (tmp_path / "model.bin").unlink()
    with pytest.raises(InputError, match=r"no file .*model\.bin"):
        RUNTIME.load(network)


class Gated(nn.Module):
    """Two convolutions with a gate between them, as squeeze-and-excitation has it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 1)
        self.last = nn.Conv2d(16, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        return self.last(x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))).mean((2, 3))


class Attention(nn.Module):
    """One layer of attention: ``[N, 6, 16] -> [N, 3]``."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x).mean(1))


@pytest.mark.parametrize(
    ("model", "shape", "attends"), [(Gated(), (3, 8, 8), False), (Attention(), (6, 16), True)]
)
def test_int8(model: nn.Module, shape: tuple[int, ...], attends: bool, tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    before = dict(os.environ)
    generator = torch.Generator().manual_seed(0)
    batches = [(torch.randn(8, *shape, generator=generator), torch.zeros(8, dtype=torch.long))] * 2
    source = export_onnx(model.eval(), batches[0][0], tmp_path / "m.onnx")
    network = read_network(source)
    assert has_attention(network) is attends
    path = OpenVinoInt8().quantise(source, tmp_path / "m.int8.xml", calibration_inputs(batches))
    parity = check_parity(path, "openvino", model, batches, limit=None)
    assert 0 < parity.max_relative_error < 0.2
    assert "FakeQuantize" in kinds(path)
    assert RUNTIME.load(path)(batches[0][0][:3]).shape[0] == 3  # the batch stays free
    assert dict(os.environ) == before
    assert {p.name for p in tmp_path.iterdir()} == {"m.onnx", "m.int8.xml", "m.int8.bin"}


def test_gates_and_means_stay_floats(tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    import openvino

    source = export_onnx(Gated().eval(), torch.randn(2, 3, 8, 8), tmp_path / "m.onnx")
    path = OpenVinoInt8().quantise(source, tmp_path / "q.xml", [torch.randn(8, 3, 8, 8)])
    network = openvino.Core().read_model(str(path))
    producers = {
        op.get_type_name(): {port.get_source_output().get_node().get_type_name() for port in op.inputs()}
        for op in network.get_ordered_ops()
        if op.get_friendly_name().startswith("node_") and op.get_type_name() in ("Multiply", "ReduceMean")
    }
    assert set(producers) == {"Multiply", "ReduceMean"}
    assert not any("FakeQuantize" in found for found in producers.values())


class Positions(nn.Module):
    """Words and their places, the latter by indices that no input decides: too many for the exporter to look up."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places, self.kinds = nn.Embedding(32, 96), nn.Embedding(128, 96), nn.Embedding(2, 96)
        self.norm, self.out = nn.LayerNorm(96), nn.Linear(96, 4)
        self.register_buffer("order", torch.arange(128)[None])

    def forward(self, ids):
        kinds = self.kinds(torch.zeros_like(ids))
        return self.out(self.norm(self.words(ids) + kinds + self.places(self.order[:, : ids.shape[1]])))


def test_embeddings_of_constants_are_left_alone(tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    torch.manual_seed(0)
    model, ids = Positions().eval(), torch.randint(0, 32, (4, 128))
    source = export_onnx(model, ids[:2], tmp_path / "m.onnx")
    assert len(settled(read_network(source))) == 1
    path = OpenVinoInt8().quantise(source, tmp_path / "q.xml", [ids])
    wanted = model(ids).detach()
    assert (torch.as_tensor(RUNTIME.load(path)(ids)) - wanted).abs().max() < 0.1 * wanted.abs().max()


def test_calibration_is_checked(convs: nn.Module, onnx_file: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least one"):
        OpenVinoInt8().quantise(onnx_file, tmp_path / "q.xml", [])
    with pytest.raises(NotFinite, match="'input'"):
        OpenVinoInt8().quantise(onnx_file, tmp_path / "q.xml", [torch.full((2, 3, 8, 8), float("nan"))])
    assert not (tmp_path / "q.xml").exists()
