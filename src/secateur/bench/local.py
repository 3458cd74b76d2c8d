"""This machine as a device: a process for each artifact, pinned threads, one of them running at a time.

A process of its own keeps one artifact's thread pool from disturbing another's, and keeps torch out of the way. Workers
end when their input closes, so none outlives a parent that was killed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from torch import Tensor

import secateur.errors
from secateur.bench import worker
from secateur.bench.cores import Load, available_cores, physical_cores
from secateur.bench.device import Device, NodeTimes, Runner
from secateur.bench.measurement import Entry
from secateur.deploy import batch_size, files_of, named_inputs, runtime_named
from secateur.errors import InputError, MissingExtra, SecateurError
from secateur.task import Inputs


class LocalRunner(Runner):
    """A worker process and the pipes to it."""

    def __init__(self, entry: Entry, spec: dict[str, Any], patience: float) -> None:
        self._entry, self._patience = entry, patience
        self._errors: IO[bytes] = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(worker.__file__)), json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,  # an interrupt at the terminal is for the parent, which then closes the workers
        )
        self.process_id = self._process.pid

    def wait_until_ready(self) -> None:
        self._answer()

    def window(self, runs: int) -> list[float]:
        times: list[float] = self._ask({"window": runs})["ms"]
        return times

    def nodes(self) -> list[NodeTimes]:
        return [
            NodeTimes(node["op"], node["name"], tuple(tuple(s) for s in node["shapes"]), tuple(node["ms"]))
            for node in self._ask({"nodes": True})["nodes"]
        ]

    def peak_bytes(self) -> int:
        return int(self._ask({"peak": True})["bytes"])

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:
                pass  # what was still to be written no longer matters

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            print(json.dumps(command), file=self._process.stdin, flush=True)
        except OSError:
            pass  # it is dead; reading the answer says why
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(self._patience, give_up)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        status = self._process.wait()
        reason = f"no answer within {self._patience:g} s" if late.is_set() else self._last_words(status)
        raise SecateurError(f"timing {self._entry.artifact} ({self._entry.path}) stopped: {reason}")

    def _last_words(self, status: int) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"its process ended with status {status}"


class LocalDevice(Device):
    """Times artifacts on this machine.

    Args:
        pin: whether to bind the workers to as many cores as they have threads, the same for all, so that what else
            runs there disturbs all alike.
        patience: seconds after which a worker that does not answer is given up.
    """

    name = "local"
    tells_operators = True

    def __init__(self, pin: bool = True, patience: float = 120.0) -> None:
        self.pin, self.patience = pin, patience

    @contextmanager
    def open(
        self, entries: Sequence[Entry], inputs: Inputs, threads: int, *, profile: bool = False
    ) -> Iterator[list[Runner]]:
        for entry in entries:
            for file in files_of(Path(entry.path)):
                if not file.is_file():
                    raise InputError(f"no artifact {file}")
            runtime = runtime_named(entry.runtime)
            if not runtime.available() and runtime.extra is not None:
                raise MissingExtra(entry.runtime, runtime.extra, f"timing {entry.artifact}")
        runners: list[LocalRunner] = []
        with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
            shared = {**self._shared(inputs, threads, Path(folder)), "profile": profile, "folder": folder}
            try:
                for entry in entries:
                    spec = {**shared, "path": str(entry.path), "runtime": entry.runtime}
                    runners.append(LocalRunner(entry, spec, self.patience))
                for runner in runners:
                    runner.wait_until_ready()
                yield list(runners)
            finally:
                for runner in runners:
                    runner.close()

    def watch(self, runners: Sequence[Runner]) -> Callable[[], bool]:
        load = Load([runner.process_id for runner in runners if isinstance(runner, LocalRunner)])
        load.start()
        return load.loaded

    def _shared(self, inputs: Inputs, threads: int, folder: Path) -> dict[str, Any]:
        tensors = named_inputs(inputs)
        arrays = {f"a{index}": tensor.detach().cpu().numpy() for index, tensor in enumerate(tensors.values())}
        file = folder / "inputs.npz"
        np.savez(file, allow_pickle=False, **arrays)
        return {
            "inputs": str(file),
            "names": list(tensors),
            "form": "tensor"
            if isinstance(inputs, Tensor)
            else "tuple"
            if isinstance(inputs, tuple)
            else "dict",
            "batch": batch_size(inputs),
            "threads": threads,
            "cores": self._cores(threads) if self.pin else [],
            "packages": str(Path(secateur.errors.__file__).parents[1]),
        }

    def _cores(self, threads: int) -> list[int]:
        """The last cores: the first serve interrupts."""
        cores = physical_cores() if threads <= len(physical_cores()) else available_cores()
        return cores[-threads:] if threads <= len(cores) else cores
