"""An artifact in parts: every operator as a share of a reference's time, measured in turn with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from secateur.bench import Effort, Entry, FakeDevice, profile
from secateur.errors import InputError

X = torch.zeros(1, 3, 8, 8)
QUICK = Effort(min_turns=3, max_turns=3, window_seconds=0.002, warmup_seconds=0.002)
DENSE, SMALL = Entry("dense", Path("dense.onnx")), Entry("small", Path("small.onnx"))


def nodes(entry: Entry) -> list[tuple[str, str, tuple[tuple[int, ...], ...], float]]:
    part = 3.0 if entry is DENSE else 1.0
    return [("Conv", "first", ((1, 3), (1, 8)), part), ("Gemm", "last", ((1, 8), (1, 2)), part / 2)]


def test_parts_are_shares_of_the_reference() -> None:
    device = FakeDevice(lambda entry, turn: 5.0 if entry is DENSE else 2.0, nodes=nodes)
    found = profile(SMALL, X, reference=DENSE, device=device, threads=1, effort=QUICK)
    assert (found.ratio, found.reference_ms) == (0.4, 5.0)
    assert [(n.op, n.name, n.share) for n in found.nodes] == [("Conv", "first", 0.2), ("Gemm", "last", 0.1)]
    assert found.nodes[0].shapes == ((1, 3), (1, 8))
    assert device.opened == device.closed == 2


def test_the_reference_itself_is_taken_apart() -> None:
    device = FakeDevice(lambda entry, turn: 5.0, nodes=nodes)
    found = profile(DENSE, X, reference=DENSE, device=device, threads=1, effort=QUICK)
    assert found.ratio == 1.0 and found.nodes[0].share == pytest.approx(0.6)


def test_drift_of_the_machine_cancels() -> None:
    device = FakeDevice(
        lambda entry, turn: (5.0 if entry is DENSE else 2.0) * (1 + turn / 10), nodes=lambda entry: []
    )
    found = profile(SMALL, X, reference=DENSE, device=device, threads=1, effort=QUICK)
    assert found.ratio == pytest.approx(0.4) and found.reference_ms > 5.0


def test_a_device_that_does_not_tell() -> None:
    with pytest.raises(InputError, match="does not tell"):
        profile(SMALL, X, reference=DENSE, device=FakeDevice(lambda e, t: 1.0), threads=1, effort=QUICK)


def test_onnxruntime_tells_its_operators(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from secateur.deploy import export_onnx

    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2)
    )
    entry = Entry("small", export_onnx(model.eval(), X, tmp_path / "small.onnx"))
    found = profile(entry, X, reference=entry, threads=1, effort=QUICK)
    kernels = [n.op for n in found.nodes]
    assert kernels[0] in ("Conv", "FusedConv", "ReorderInput") and "Gemm" in kernels
    assert all(n.share >= 0 for n in found.nodes) and sum(n.share for n in found.nodes) > 0
    gemm = next(n for n in found.nodes if n.op == "Gemm")
    assert gemm.shapes[-1] == (1, 2) and (1, 16) in gemm.shapes
