"""A model as an OpenVINO network in fp32: read from the ONNX file that the exporter of :mod:`onnx_export` writes.

So both runtimes run the same graph, under the same names of inputs and outputs. OpenVINO's own converter is not used:
it reports its use to its makers, and reading a file needs none of it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from torch import nn

from secateur.deploy.artifact import files_of
from secateur.deploy.extras import require
from secateur.deploy.onnx_export import export_onnx
from secateur.deploy.openvino_runtime import last_words
from secateur.errors import NotExportable
from secateur.files import whole_file
from secateur.task import Inputs


def export_openvino(model: nn.Module, example_inputs: Inputs, path: str | Path) -> Path:
    """Writes ``model`` as an ``.xml`` file with its fp32 weights beside it in ``.bin``, batch free where it may be.

    Args:
        model, example_inputs: as for :func:`secateur.deploy.export_onnx`.
        path: of the ``.xml`` file; it appears last, when its weights are there.

    Raises:
        NotExportable: the model has no ONNX form, or OpenVINO lacks an operator of it.
        MissingExtra: openvino, onnx or onnxscript is not installed.
        RunFolderError: the files cannot be written.
    """
    require("openvino", "openvino", "exporting to OpenVINO")
    with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
        source = export_onnx(model, example_inputs, Path(folder) / "model.onnx")
        return write_network(read_network(source), Path(path))


def read_network(source: Path) -> Any:
    """The network of an ONNX file.

    Raises:
        NotExportable: OpenVINO does not understand it.
    """
    openvino = require("openvino", "openvino", "exporting to OpenVINO")
    try:
        return openvino.Core().read_model(str(source))
    except Exception as error:
        raise NotExportable(f"no OpenVINO form: {last_words(error)}") from error


def write_network(network: Any, path: Path) -> Path:
    """Writes a network and its weights as they are, in no lower precision; each whole or not at all.

    Raises:
        RunFolderError: they cannot be written.
    """
    openvino = require("openvino", "openvino", "exporting to OpenVINO")
    weights, _ = files_of(path)
    with whole_file(path) as temporary, whole_file(weights) as temporary_weights:
        openvino.serialize(network, str(temporary), str(temporary_weights))
        path.unlink(missing_ok=True)  # an older network must not stand beside the new weights
    return path
