"""From a model to a file that a runtime runs, and the proof that the file is still that model.

Three small interfaces, each an extension point: :class:`Exporter` (model -> file), :class:`Quantiser` (file ->
smaller file) and :class:`Runtime` (file -> outputs). The verb is :func:`export`: it writes a file in one of the
``formats`` and sends it through the parity gate on real batches before it counts as an :class:`Artifact`.
"""

from __future__ import annotations

from secateur.deploy.artifact import Artifact, files_of, is_whole, move, remove, size_of
from secateur.deploy.calibration import calibration_inputs
from secateur.deploy.formats import Exporter, export, format_for, format_named, formats
from secateur.deploy.inputs import batch_size, named_inputs
from secateur.deploy.onnx_export import export_onnx
from secateur.deploy.onnx_int8 import OnnxInt8, Quantiser, quantise_onnx
from secateur.deploy.openvino_export import export_openvino
from secateur.deploy.openvino_int8 import OpenVinoInt8
from secateur.deploy.openvino_runtime import OpenVinoRuntime, last_words, port_names
from secateur.deploy.parity import Evaluation, Parity, check_parity, evaluate_artifact
from secateur.deploy.pt2 import check_pt2, export_pt2, load_pt2
from secateur.deploy.runtime import OnnxRuntime, Runtime, Session, TorchRuntime
from secateur.deploy.runtimes import runtime_named, runtimes
from secateur.deploy.target import Target, targets

__all__ = [
    "Artifact",
    "Evaluation",
    "Exporter",
    "OnnxInt8",
    "OnnxRuntime",
    "OpenVinoInt8",
    "OpenVinoRuntime",
    "Parity",
    "Quantiser",
    "Runtime",
    "Session",
    "Target",
    "TorchRuntime",
    "batch_size",
    "calibration_inputs",
    "check_parity",
    "check_pt2",
    "evaluate_artifact",
    "export",
    "export_onnx",
    "export_openvino",
    "export_pt2",
    "files_of",
    "format_for",
    "format_named",
    "formats",
    "is_whole",
    "last_words",
    "load_pt2",
    "move",
    "named_inputs",
    "port_names",
    "quantise_onnx",
    "remove",
    "runtime_named",
    "runtimes",
    "size_of",
    "targets",
]
