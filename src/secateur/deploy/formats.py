"""The formats of ``secateur export``, and the way of every artifact: write, compare, count.

To add a format: enter an :class:`Exporter` in ``formats``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from secateur.deploy.artifact import Artifact, remove, size_of
from secateur.deploy.onnx_export import export_onnx
from secateur.deploy.onnx_int8 import OnnxInt8, Quantiser
from secateur.deploy.openvino_export import export_openvino
from secateur.deploy.openvino_int8 import OpenVinoInt8
from secateur.deploy.parity import FLOAT_LIMIT, check_parity
from secateur.deploy.pt2 import export_pt2
from secateur.errors import DataError, UnknownName
from secateur.task import Inputs, Task

Write = Callable[[nn.Module, Inputs, Path, Sequence[Inputs]], Path]


@dataclass(frozen=True)
class Exporter:
    """A format.

    Args:
        name: what the command line calls it.
        filename: how its file is called in ``RUN/artifacts``; see :func:`secateur.deploy.files_of`.
        runtime: the name of the runtime that runs it.
        dtype: ``fp32`` or ``int8``.
        write: ``write(model, example_inputs, path, calibration) -> path``; writes the file, whole or not at all.
        limit: relative error that the parity gate allows; ``None`` leaves it to the budget's ``drop``.
        calibrated: whether ``write`` needs calibration inputs.
    """

    name: str
    filename: str
    runtime: str
    dtype: str
    write: Write
    limit: float | None = FLOAT_LIMIT
    calibrated: bool = False


def quantised(quantiser: Quantiser) -> Write:
    """Writes ONNX in fp32 to a temporary folder, and the quantised file from it."""

    def write(model: nn.Module, example_inputs: Inputs, path: Path, calibration: Sequence[Inputs]) -> Path:
        with tempfile.TemporaryDirectory() as folder:
            source = export_onnx(model, example_inputs, Path(folder) / "model.onnx")
            return quantiser.quantise(source, path, calibration)

    return write


formats: dict[str, Exporter] = {
    exporter.name: exporter
    for exporter in (
        Exporter("onnx", "model.onnx", "onnxruntime", "fp32", lambda m, x, path, _: export_onnx(m, x, path)),
        Exporter(
            "onnx-int8",
            "model.int8.onnx",
            "onnxruntime",
            "int8",
            quantised(OnnxInt8()),
            limit=None,
            calibrated=True,
        ),
        Exporter(
            "openvino", "model.xml", "openvino", "fp32", lambda m, x, path, _: export_openvino(m, x, path)
        ),
        Exporter(
            "openvino-int8",
            "model.int8.xml",
            "openvino",
            "int8",
            quantised(OpenVinoInt8()),
            limit=None,
            calibrated=True,
        ),
        Exporter("pt2", "model.pt2", "torch", "fp32", lambda m, x, path, _: export_pt2(m, x, path)),
    )
}


def format_named(name: str) -> Exporter:
    """The format of that name.

    Raises:
        UnknownName: there is none; the message lists those that exist.
    """
    if name not in formats:
        raise UnknownName(f"no format {name!r}; this version has {', '.join(formats)}")
    return formats[name]


def format_for(runtime: str, dtype: str) -> Exporter:
    """The format that a runtime runs in a dtype.

    Raises:
        UnknownName: there is none.
    """
    for exporter in formats.values():
        if (exporter.runtime, exporter.dtype) == (runtime, dtype):
            return exporter
    offered = ", ".join(f"{e.runtime}:{e.dtype}" for e in formats.values())
    raise UnknownName(f"no format for {runtime}:{dtype}; this version has {offered}")


def export(
    model: nn.Module,
    example_inputs: Inputs,
    format: str | Exporter,
    path: str | Path,
    batches: Iterable[Any],
    task: Task | None = None,
    *,
    calibration: Sequence[Inputs] = (),
    name: str | None = None,
) -> Artifact:
    """Writes ``model`` in a format and compares it with the model on real batches; only then does it count.

    Args:
        model: any exportable module; it is copied, not changed.
        example_inputs: a tensor, a tuple or a dict of keyword arguments; axis 0 is the batch.
        format: the name of one of ``formats``, or an exporter of one's own.
        path: the file to write, or an existing folder, where it is called as the format says. A file that does not
            pass is removed.
        batches: real batches for the gate, ``(inputs, target)`` or dicts with ``labels``.
        task: gives the metric to be recorded.
        calibration: inputs for formats that quantise, from training data; see :func:`calibration_inputs`.
        name: how the artifact is called in reports; ``<format>`` by default.

    Raises:
        UnknownName: no such format.
        DataError: a format that quantises was given no calibration inputs, or there are no batches.
        NotExportable, MissingExtra, RunFolderError: it cannot be written.
        ParityError: it differs from the model.
    """
    exporter = format_named(format) if isinstance(format, str) else format
    if exporter.calibrated and not calibration:
        raise DataError(f"the format {exporter.name} needs calibration inputs; none were given")
    destination = Path(path)
    if destination.is_dir():
        destination = destination / exporter.filename
    exporter.write(model, example_inputs, destination, calibration)
    try:
        parity = check_parity(destination, exporter.runtime, model, batches, task, exporter.limit)
    except BaseException:
        remove(destination)
        raise
    return Artifact(
        path=destination,
        runtime=exporter.runtime,
        dtype=exporter.dtype,
        bytes=size_of(destination),
        max_relative_error=parity.max_relative_error,
        metric=parity.metric_artifact,
        name=name or exporter.name,
    )
