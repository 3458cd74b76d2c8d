"""Random inputs for artifacts, from what the files say they take.

Axis 0 is the batch. Other axes that a file leaves open have to be given as ``--input``. Integers are ones: valid as
indices into anything that has more than one row, and as a mask.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from secateur.cli.objects import told
from secateur.cli.options import shape_from
from secateur.deploy import last_words, port_names
from secateur.errors import CorruptFile, InputError, RecipeError
from secateur.task import Inputs

if TYPE_CHECKING:
    from pathlib import Path

    from secateur.bench import Entry

ONNX_TYPES = {
    "tensor(float)": torch.float32,
    "tensor(double)": torch.float64,
    "tensor(float16)": torch.float16,
    "tensor(int64)": torch.int64,
    "tensor(int32)": torch.int32,
    "tensor(uint8)": torch.uint8,
    "tensor(int8)": torch.int8,
    "tensor(bool)": torch.bool,
}
OPENVINO_TYPES = {
    "f32": torch.float32,
    "f64": torch.float64,
    "f16": torch.float16,
    "i64": torch.int64,
    "i32": torch.int32,
    "u8": torch.uint8,
    "i8": torch.int8,
    "boolean": torch.bool,
}


@dataclass(frozen=True)
class Wanted:
    """An input that a file takes; ``None`` in ``shape`` is an open axis."""

    name: str
    shape: tuple[int | None, ...]
    dtype: torch.dtype


def random_inputs(entries: Sequence[Entry], batch: int | None, given: Iterable[str]) -> Inputs:
    """Inputs that all the artifacts take.

    Args:
        batch: samples; that of the files where it is fixed, else 1.
        given: ``SHAPE`` or ``NAME=SHAPE``, for axes that are open.

    Raises:
        InputError: the artifacts take different inputs, another batch, or an axis is open.
        RecipeError: a shape cannot be read, or names no input.
        CorruptFile: a file cannot be read.
    """
    wanted = wanted_by(entries[0])
    for entry in entries[1:]:
        other = wanted_by(entry)
        if not _alike(wanted, other):
            raise InputError(
                f"{entries[0].path} and {entry.path} take different inputs ({_told(wanted)}; {_told(other)}); "
                "bench them one by one"
            )
        wanted = [_narrower(a, b) for a, b in zip(wanted, other, strict=True)]
    shapes = _shapes(wanted, given)
    generator = torch.Generator().manual_seed(0)
    made = {w.name: _random(w, _shape(w, shapes.get(w.name), batch), generator) for w in wanted}
    names = list(made)
    if names == ["input"]:
        return made["input"]
    if names == [f"input_{i}" for i in range(len(names))]:
        return tuple(made.values())
    return made


def wanted_by(entry: Entry) -> list[Wanted]:
    """What an artifact takes."""
    return {"onnxruntime": _onnx, "openvino": _openvino, "torch": _pt2}[entry.runtime](entry.path)


def _onnx(path: Path) -> list[Wanted]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise CorruptFile(f"ONNX Runtime cannot read {path}: {told(error)}") from error
    found = []
    for value in session.get_inputs():
        if value.type not in ONNX_TYPES:
            raise InputError(
                f"{path} takes {value.name!r} as {value.type}, for which no random values are made"
            )
        shape = tuple(n if isinstance(n, int) else None for n in value.shape)
        found.append(Wanted(value.name, shape, ONNX_TYPES[value.type]))
    return found


def _openvino(path: Path) -> list[Wanted]:
    import openvino

    try:
        ports = openvino.Core().read_model(str(path)).inputs
    except Exception as error:
        raise CorruptFile(f"OpenVINO cannot read {path}: {last_words(error)}") from error
    found = []
    for name, port in zip(port_names(ports, "input"), ports, strict=True):
        kind = port.get_element_type().to_string()
        if kind not in OPENVINO_TYPES:
            raise InputError(f"{path} takes {name!r} as {kind}, for which no random values are made")
        shape = tuple(n.get_length() if n.is_static else None for n in port.get_partial_shape())
        found.append(Wanted(name, shape, OPENVINO_TYPES[kind]))
    return found


def _pt2(path: Path) -> list[Wanted]:
    from secateur.deploy import load_pt2

    program = load_pt2(path).program
    takes = program.graph_signature.user_inputs
    values = [n.meta["val"] for n in program.graph.nodes if n.op == "placeholder" and n.name in takes]
    tensors = [v for v in values if isinstance(v, Tensor)]
    arguments: Any = program.call_spec.in_spec
    keywords = [str(key) for key in arguments.child(1).context] if arguments.num_children > 1 else []
    names = ["input"] if len(tensors) == 1 else [f"input_{i}" for i in range(len(tensors))]
    if len(keywords) == len(tensors):
        names = keywords
    return [
        Wanted(name, tuple(n if isinstance(n, int) else None for n in value.shape), value.dtype)
        for name, value in zip(names, tensors, strict=True)
    ]


def _alike(one: Sequence[Wanted], other: Sequence[Wanted]) -> bool:
    return len(one) == len(other) and all(
        a.name == b.name
        and a.dtype == b.dtype
        and len(a.shape) == len(b.shape)
        and all(m == n or None in (m, n) for m, n in zip(a.shape, b.shape, strict=True))
        for a, b in zip(one, other, strict=True)
    )


def _narrower(one: Wanted, other: Wanted) -> Wanted:
    shape = tuple(n if m is None else m for m, n in zip(one.shape, other.shape, strict=True))
    return Wanted(one.name, shape, one.dtype)


def _shapes(wanted: Sequence[Wanted], given: Iterable[str]) -> dict[str, tuple[int, ...]]:
    found = {}
    for text in given:
        name, equals, shape = text.partition("=")
        if not equals:
            if len(wanted) != 1:
                raise RecipeError(
                    f"--input {text} names none of {', '.join(w.name for w in wanted)}; write NAME=SHAPE"
                )
            name, shape = wanted[0].name, text
        if name not in {w.name for w in wanted}:
            raise RecipeError(f"--input {text}: there is no input {name!r}; there are {_told(wanted)}")
        found[name] = shape_from(shape)
    return found


def _shape(wanted: Wanted, given: tuple[int, ...] | None, batch: int | None) -> tuple[int, ...]:
    fixed = wanted.shape[0] if wanted.shape else None
    if given is not None:
        fits = len(given) == len(wanted.shape) and all(
            n is None or n == g for n, g in zip(wanted.shape, given, strict=True)
        )
        if not fits:
            raise InputError(
                f"--input {','.join(map(str, given))} does not fit what is taken: {_told([wanted])}"
            )
        return (batch or given[0], *given[1:])
    if batch is not None and fixed not in (None, batch):
        raise InputError(f"the artifact takes a batch of {fixed} only; --batch {batch} was asked")
    rest = wanted.shape[1:]
    if None in rest:
        raise InputError(
            f"an axis of {_told([wanted])} is open; give its sizes, such as --input {wanted.name}=1,128"
        )
    return (*((fixed or batch or 1,) if wanted.shape else ()), *(int(n or 0) for n in rest))


def _random(wanted: Wanted, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if wanted.dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(wanted.dtype)
    return torch.ones(shape, dtype=wanted.dtype)


def _told(wanted: Sequence[Wanted]) -> str:
    return ", ".join(f"{w.name} [{', '.join('?' if n is None else str(n) for n in w.shape)}]" for w in wanted)
