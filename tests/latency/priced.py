"""A device whose times are known: every convolution and matrix product of an ONNX file costs by its weight's shape."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import onnx

from secateur.bench import Entry, FakeDevice

BLOCK = 8
OVERHEAD = 0.05

Priced = tuple[str, str, tuple[tuple[int, ...], ...], float]


def price(inputs: int, outputs: int, rest: int) -> float:
    """Milliseconds: work in blocks of eight, traffic, and a constant."""
    wide_in, wide_out = (-(-n // BLOCK) * BLOCK for n in (inputs, outputs))
    return 1e-4 * wide_in * wide_out * rest + 2e-3 * wide_in + 1e-3 * wide_out + 0.01


@cache
def _operators(path: Path, stamp: int) -> list[Priced]:
    model = onnx.load(str(path))
    shapes = {i.name: tuple(i.dims) for i in model.graph.initializer}
    found: list[Priced] = []
    for node in model.graph.node:
        weights = [shapes[name] for name in node.input if len(shapes.get(name, ())) >= 2]
        if node.op_type not in ("Conv", "Gemm", "MatMul") or not weights:
            continue
        outputs, inputs, *kernel = weights[0] if node.op_type != "MatMul" else weights[0][::-1]
        rest = kernel[0] * kernel[1] if kernel else 1
        seen = ((1, inputs), weights[0], (1, outputs))
        found.append((node.op_type, node.name, seen, price(inputs, outputs, rest)))
        if outputs % BLOCK:  # a reordering, which wide enough networks do not have
            found.append(("Reorder", "Reorder", ((1, outputs),), 0.002))
    return found


def operators(entry: Entry) -> list[Priced]:
    """What the device tells of an artifact."""
    return _operators(entry.path, entry.path.stat().st_mtime_ns)


def device() -> FakeDevice:
    """Whole networks take their operators and an overhead."""
    return FakeDevice(lambda entry, turn: OVERHEAD + sum(o[3] for o in operators(entry)), nodes=operators)
