"""OpenVINO timed in a process of its own, beside ONNX Runtime, as a whole and operator by operator."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("openvino")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from secateur.bench import Effort, Entry, LocalDevice, measure, peak_memory, profile
from secateur.deploy import export_onnx, export_openvino
from secateur.errors import InputError, SecateurError

QUICK = Effort(min_turns=3, max_turns=3, window_seconds=0.002, warmup_seconds=0.002)
X = torch.zeros(1, 3, 16, 16)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 8, 3), nn.Flatten())


@pytest.fixture(scope="module")
def entry(net: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Entry:
    path = tmp_path_factory.mktemp("openvino") / "net.xml"
    return Entry("net", export_openvino(net, X, path), "openvino")


def test_it_is_timed_beside_onnx_runtime(net: nn.Module, entry: Entry, tmp_path: Path) -> None:
    other = Entry("onnx", export_onnx(net, X, tmp_path / "net.onnx"))
    first, second = measure([other, entry], X, threads=1, effort=QUICK)
    assert first.runtime == "onnxruntime" and second.runtime == "openvino"
    assert second.reference == "onnx" and second.ratio is not None and second.ratio > 0
    assert peak_memory(entry, X, threads=1) > 0


def test_operators_are_told_fused_with_their_shapes(entry: Entry) -> None:
    found = profile(entry, X, reference=entry, threads=1, effort=QUICK)
    convolutions = [node for node in found.nodes if node.op == "Convolution"]
    assert [(*node.shapes[:2], node.shapes[-1]) for node in convolutions] == [
        ((1, 3, 16, 16), (16, 3, 3, 3), (1, 16, 16, 16)),
        ((1, 16, 16, 16), (8, 16, 3, 3), (1, 8, 14, 14)),
    ]
    assert not any(node.op == "Relu" for node in found.nodes)  # it is part of the convolution
    assert all(node.share > 0 for node in convolutions)


def test_each_run_has_its_window_s_mean(entry: Entry) -> None:
    with LocalDevice().open([entry], X, 1, profile=True) as (runner,):
        sizes = (1, 4, 2)
        for runs in sizes:
            runner.window(runs)
        nodes = runner.nodes()
    assert {len(node.ms) for node in nodes} == {1 + sum(sizes)}  # and the run that showed it to be ready
    assert all(node.ms[2] == node.ms[5] and node.ms[6] == node.ms[7] for node in nodes)


def test_without_profiling_it_tells_no_operators(entry: Entry) -> None:
    with (
        LocalDevice().open([entry], X, 1) as (runner,),
        pytest.raises(SecateurError, match="does not tell the times of single operators"),
    ):
        runner.nodes()


def test_what_it_cannot_take_is_told(entry: Entry, tmp_path: Path) -> None:
    with pytest.raises(SecateurError, match=r"takes input as \[\?,3,16,16\]; got \[1, 4, 16, 16\]"):
        measure([entry], torch.zeros(1, 4, 16, 16), effort=QUICK)
    with pytest.raises(SecateurError, match=r"takes \['input'\]; got \['x'\]"):
        measure([entry], {"x": X}, effort=QUICK)
    lone = tmp_path / "lone.xml"
    lone.write_text(entry.path.read_text())
    with pytest.raises(InputError, match=r"no artifact .*lone\.bin"):
        measure([Entry("lone", lone, "openvino")], X, effort=QUICK)
