"""A verdict before any work, from where the time goes and what is predicted at smaller widths."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("onnxscript")

from secateur.bench import Effort
from secateur.latency import InDtype, Survey, Where, judged, one_sample, suitability
from tests.latency.priced import OVERHEAD, device
from tests.latency.test_fit_latency import PACE, ready

FP32 = InDtype("fp32", 1.0, 10.0, 0.1, 0.2, 0.7, 0.4, 0.1, 0.03, ())


def int8(ratio: float, half: float) -> InDtype:
    return replace(FP32, dtype="int8", ratio=ratio, half=half, least=half / 2)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ([FP32], "prune"),
        ([replace(FP32, half=0.95, least=0.9)], "leave"),
        ([FP32, int8(0.4, 0.5)], "quantise and prune"),
        ([FP32, int8(0.4, 0.9)], "quantise"),
        ([FP32, int8(1.2, 0.3)], "prune"),  # INT8 is slower: what counts is fp32
    ],
)
def test_the_verdict_goes_by_the_best_that_can_be_had_without(found: list[InDtype], verdict: str) -> None:
    got, words = judged("onnxruntime", found)
    best = min(found, key=lambda d: d.ratio)
    assert got == verdict and f"{1 / best.half:.2f}x" in words and best.dtype in words


def test_slower_in_int8_is_said() -> None:
    assert "int8 alone makes it 1.25 times slower" in judged("onnxruntime", [FP32, int8(1.25, 0.5)])[1]
    assert "int8 alone makes it 2.00 times faster" in judged("onnxruntime", [FP32, int8(0.5, 0.5)])[1]


def test_a_network_is_taken_apart(tmp_path: Path) -> None:
    groups = ready()[1]
    where = Where(device=device(), threads=1)
    quick = Effort(min_turns=2, max_turns=2)
    found = suitability(
        groups,
        one_sample(groups.graph),
        {"fp32": where},
        tmp_path,
        Survey(pace=PACE, cache=tmp_path / "cache"),
        effort=quick,
    )
    (fp32,) = found.dtypes
    assert fp32.fixed + fp32.linear + fp32.products == pytest.approx(1.0, abs=0.02)
    assert fp32.products > 0.2 and fp32.fixed >= 0.5 * OVERHEAD / fp32.dense_ms
    assert fp32.least < fp32.half < 1.0 and found.verdict == "prune"
    assert "stem" in fp32.slowest[0][0] or "a" in fp32.slowest[0][0]
    assert found.to_json()["dtypes"][0]["slowest"][0] == list(fp32.slowest[0])
