"""OpenVINO on the CPU: ``.xml`` files with their weights beside them, in ``.bin``.

fp32 is fp32: OpenVINO would else compute in bfloat16 where the processor can. The batch stays as free as the file says;
a file is compiled as it is, so what is measured is what loading it gives.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from secateur.deploy.artifact import files_of
from secateur.deploy.extras import installed, require, version
from secateur.deploy.inputs import named_inputs
from secateur.deploy.runtime import Runtime, Session
from secateur.errors import CorruptFile, InputError
from secateur.task import Inputs


class OpenVinoRuntime(Runtime):
    """OpenVINO on the CPU."""

    name = "openvino"
    extra = "openvino"
    tells_operators = True

    def available(self) -> bool:
        return installed("openvino")

    def version(self) -> str | None:
        return version("openvino")

    def load(self, path: str | Path, threads: int = 1) -> Session:
        openvino = require("openvino", "openvino", "running OpenVINO files")
        for file in files_of(Path(path)):
            if not file.is_file():
                raise InputError(f"no file {file}")
        try:
            core = openvino.Core()
            compiled = core.compile_model(core.read_model(str(path)), "CPU", settings(threads))
            request = compiled.create_infer_request()
        except Exception as error:
            raise CorruptFile(f"OpenVINO cannot read {path}: {last_words(error)}") from error
        wanted, given = port_names(compiled.inputs, "input"), port_names(compiled.outputs, "output")

        def run(inputs: Inputs) -> dict[str, Tensor]:
            tensors = named_inputs(inputs)
            lacking = [name for name in wanted if name not in tensors]
            if lacking:
                raise InputError(f"{path} takes the input {lacking[0]!r}; got {sorted(tensors)}")
            feed = {place: tensors[name].detach().cpu().numpy() for place, name in enumerate(wanted)}
            for place, array in feed.items():  # which would else be read beyond its end, or be cut
                takes = compiled.inputs[place].get_partial_shape()
                if not openvino.PartialShape(list(array.shape)).compatible(takes):
                    raise InputError(
                        f"{path} does not take these inputs: {wanted[place]} is {list(array.shape)}, it takes {takes}"
                    )
            try:
                request.infer(feed)
            except Exception as error:
                raise InputError(f"{path} does not take these inputs: {last_words(error)}") from error
            outputs = [request.get_output_tensor(place).data.copy() for place in range(len(given))]
            return {name: torch.from_numpy(value) for name, value in zip(given, outputs, strict=True)}

        return Session(run, fixed_batch(compiled))


def settings(threads: int) -> dict[str, Any]:
    """How files are compiled: one request at a time, in the precision of the file, on so many threads.

    Binding threads to cores is left to whoever starts the process.
    """
    return {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": "1",
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
    }


def port_names(ports: Iterable[Any], base: str) -> list[str]:
    """The names of inputs or outputs, in order; one tensor may go by several, and be an output twice."""
    found: list[str] = []
    for place, port in enumerate(ports):
        free = sorted(name for name in port.names if name not in found)
        found.append(free[0] if free else f"{base}_{place}")
    return found


def fixed_batch(compiled: Any) -> int | None:
    """Axis 0 of the first input, where it is a number."""
    shape = compiled.inputs[0].get_partial_shape() if compiled.inputs else None
    return int(shape[0].get_length()) if shape is not None and len(shape) and shape[0].is_static else None


def last_words(error: BaseException) -> str:
    """OpenVINO wraps the cause in lines that name its own files; the last that does not says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith(("Exception from", "Check '"))]
    return (said or lines or [""])[-1] or type(error).__name__
