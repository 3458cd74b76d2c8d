"""OpenVINO in fp32 to OpenVINO in INT8, by NNCF's post-training quantisation.

Weights symmetric with a scale for each output channel, activations asymmetric where they may be negative, ranges from
real batches. Products of two activations, such as a gate on a map, and means stay floats: in 8 bits they cost time and
quality (EfficientNet-B0: 0.75 of the fp32 latency and an error of 0.16, against 1.1 and 0.50 with them). Where there is
attention, NNCF's scheme for transformers keeps the residual stream in floats (DeiT-Tiny: an error of 0.04 against 0.5).
Its smoothing, which moves the range of activations into the weights, is left out: it turned an error of 0.01 into 0.3
on a small layer of attention, and hardly helped MiniLM.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from secateur.deploy.calibration import feeds_for
from secateur.deploy.extras import require
from secateur.deploy.onnx_int8 import Quantiser
from secateur.deploy.openvino_export import read_network, write_network
from secateur.deploy.openvino_runtime import last_words, port_names
from secateur.deploy.program import quiet
from secateur.errors import NotExportable, SecateurError
from secateur.task import Inputs

# NNCF would report its use to its makers, and wait for a compiler that is not needed here.
ENVIRONMENT = {"NNCF_CI": "1", "NNCF_EXTENSION_LOAD_TIMEOUT": "0"}

FLOATS = ("Multiply", "ReduceMean")
MOVERS = ("Convert", "Reshape", "Slice", "Squeeze", "StridedSlice", "Transpose", "Unsqueeze")


@dataclass(frozen=True)
class OpenVinoInt8(Quantiser):
    """Static INT8 for OpenVINO.

    Args:
        samples: calibration samples used at most.
    """

    samples: int = 256
    dtype: str = "int8"

    def quantise(self, source: Path, destination: Path, batches: Iterable[Inputs]) -> Path:
        """Writes the fp32 ONNX file ``source`` in INT8 to ``destination``, an ``.xml`` file.

        Raises:
            DataError: there are no calibration batches.
            NotFinite: they hold NaN or infinity.
            NotExportable: OpenVINO or NNCF cannot take the graph.
            MissingExtra: openvino or nncf is not installed.
        """
        network = read_network(Path(source))
        names = port_names(network.inputs, "input")
        shape = network.inputs[0].get_partial_shape()
        batch = int(shape[0].get_length()) if len(shape) and shape[0].is_static else None
        feeds = feeds_for(batches, names, batch, self.samples)
        try:
            quantised = quantised_network(network, feeds)
        except SecateurError:
            raise
        except Exception as error:
            raise NotExportable(
                f"NNCF cannot quantise {source}: {type(error).__name__}: {last_words(error)}"
            ) from error
        return write_network(quantised, Path(destination))


def quantised_network(network: Any, feeds: list[dict[str, np.ndarray]]) -> Any:
    """The network with pairs of quantising and dequantising around what is to run in integers."""
    with _environment(ENVIRONMENT), _silence():
        nncf = require("nncf", "openvino", "quantising for OpenVINO")
        nncf.set_log_level(logging.ERROR)
        unsmoothed = nncf.AdvancedSmoothQuantParameters(matmul=-1, convolution=-1)
        return nncf.quantize(
            network,
            nncf.Dataset(feeds),
            subset_size=len(feeds),
            preset=nncf.QuantizationPreset.MIXED,
            model_type=nncf.ModelType.TRANSFORMER if has_attention(network) else None,
            ignored_scope=nncf.IgnoredScope(types=list(FLOATS), names=settled(network), validate=False),
            advanced_parameters=nncf.AdvancedQuantizationParameters(smooth_quant_alphas=unsmoothed),
        )


def settled(network: Any) -> list[str]:
    """Names of embeddings whose indices no input reaches, such as those of positions.

    They are constants once the network is compiled, and NNCF fails on them.
    """
    return [
        node.get_friendly_name()
        for node in network.get_ops()
        if node.get_type_name() == "Gather" and not _reached(node.input_value(1).get_node())
    ]


def _reached(node: Any) -> bool:
    """Whether the network's inputs reach a node."""
    waiting, seen = [node], set()
    while waiting:
        current = waiting.pop()
        if current.get_type_name() == "Parameter":
            return True
        if current.get_friendly_name() not in seen:
            seen.add(current.get_friendly_name())
            waiting += [value.get_node() for value in current.input_values()]
    return False


def has_attention(network: Any) -> bool:
    """Whether a softmax's output, moved about at most, is multiplied as a matrix."""
    for node in network.get_ops():
        if node.get_type_name() == "ScaledDotProductAttention":
            return True
        if node.get_type_name() == "Softmax" and any(u == "MatMul" for u in _uses(node)):
            return True
    return False


def _uses(node: Any) -> Iterator[str]:
    """Kinds of what reads a node's output, through what only moves it about."""
    for output in node.outputs():
        for port in output.get_target_inputs():
            reader = port.get_node()
            yield reader.get_type_name()
            if reader.get_type_name() in MOVERS:
                yield from _uses(reader)


@contextlib.contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with quiet(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
