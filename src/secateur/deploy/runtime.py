"""Runtimes: what runs an artifact in this process, for parity and evaluation. Timing is the business of the bench.

To add a runtime: write a :class:`Runtime`, enter it in :mod:`runtimes`, and give ``target.CHOICES`` its dtypes.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from secateur.deploy.extras import installed, require, version
from secateur.deploy.inputs import batch_size, map_tensors, named_inputs, named_tensors
from secateur.deploy.pt2 import load_pt2
from secateur.errors import CorruptFile, InputError
from secateur.task import Inputs, call

Outputs = Tensor | dict[str, Tensor]


@dataclass(frozen=True)
class Session:
    """A loaded artifact, called with inputs in any of the three forms, or as the model itself is called with them.

    It returns the output tensor, or a dict of them by name if there are several. Where ``batch`` is a number, the
    artifact takes that batch only: other batches are split, and the last is filled up and cut again.
    """

    run: Callable[[Inputs], dict[str, Tensor]]
    batch: int | None

    def __call__(self, *positional: Any, **named: Any) -> Outputs:
        inputs: Inputs = named or (positional[0] if len(positional) == 1 else positional)
        size = batch_size(inputs)
        if self.batch is None or self.batch == size:
            outputs = self.run(inputs)
        else:
            parts = [self._part(inputs, start, size) for start in range(0, size, self.batch)]
            outputs = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs

    def _part(self, inputs: Inputs, start: int, size: int) -> dict[str, Tensor]:
        assert self.batch is not None
        rows = torch.arange(start, start + self.batch).clamp(max=size - 1)
        outputs = self.run(map_tensors(lambda t: t[rows.to(t.device)], inputs))
        return {name: value[: size - start] if value.ndim else value[None] for name, value in outputs.items()}


class Runtime(ABC):
    """Runs artifacts of one kind."""

    name: str
    extra: str | None = None  # of ours, that installs it; None where it is always there
    tells_operators = False  # whether it tells, when it is timed, what each operator takes

    @abstractmethod
    def available(self) -> bool:
        """Whether it is installed here."""

    @abstractmethod
    def version(self) -> str | None:
        """Its version, or ``None`` where it is not installed."""

    @abstractmethod
    def load(self, path: str | Path, threads: int = 1) -> Session:
        """Opens an artifact.

        Raises:
            MissingExtra: the runtime is not installed.
            CorruptFile: the file is not what the runtime reads.
        """


class OnnxRuntime(Runtime):
    """ONNX Runtime on the CPU."""

    name = "onnxruntime"
    extra = "onnx"
    tells_operators = True

    def available(self) -> bool:
        return installed("onnxruntime")

    def version(self) -> str | None:
        return version("onnxruntime")

    def load(self, path: str | Path, threads: int = 1) -> Session:
        ort = require("onnxruntime", "onnx", "running ONNX files")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if not Path(path).is_file():
            raise InputError(f"no file {path}")
        try:
            session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            line = (str(error).strip().splitlines() or ["no message"])[0]
            raise CorruptFile(f"ONNX Runtime cannot read {path}: {line}") from error
        wanted = session.get_inputs()
        names = [value.name for value in session.get_outputs()]
        shape = wanted[0].shape if wanted else []

        def run(inputs: Inputs) -> dict[str, Tensor]:
            tensors = named_inputs(inputs)
            feed = {}
            for value in wanted:
                if value.name not in tensors:
                    raise InputError(f"{path} takes the input {value.name!r}; got {sorted(tensors)}")
                feed[value.name] = tensors[value.name].detach().cpu().numpy()
            try:
                outputs = session.run(names, feed)
            except Exception as error:
                line = (str(error).strip().splitlines() or ["no message"])[0]
                line = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", line)
                raise InputError(f"{path} does not take these inputs: {line}") from error
            return {name: torch.from_numpy(value) for name, value in zip(names, outputs, strict=True)}

        return Session(run, shape[0] if shape and isinstance(shape[0], int) else None)


class TorchRuntime(Runtime):
    """A ``.pt2`` program run by torch itself; never unpickles anything."""

    name = "torch"

    def available(self) -> bool:
        return True

    def version(self) -> str | None:
        return str(torch.__version__)

    def load(self, path: str | Path, threads: int = 1) -> Session:
        program = load_pt2(path).program
        module = program.module(check_guards=False)
        shape = _first_input_shape(program)

        def run(inputs: Inputs) -> dict[str, Tensor]:
            before = torch.get_num_threads()
            torch.set_num_threads(threads)
            try:
                with torch.no_grad():
                    return named_tensors(call(module, inputs), "output")
            except (TypeError, ValueError, RuntimeError) as error:
                line = (str(error).strip().splitlines() or ["no message"])[0]
                raise InputError(f"{path} does not take these inputs: {line}") from error
            finally:
                torch.set_num_threads(before)

        return Session(run, shape[0] if shape and isinstance(shape[0], int) else None)


def _first_input_shape(program: Any) -> tuple[Any, ...]:
    names = program.graph_signature.user_inputs
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in names and isinstance(node.meta.get("val"), Tensor):
            return tuple(node.meta["val"].shape)
    return ()
