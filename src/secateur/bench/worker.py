"""The process that holds one artifact: loads it, then sleeps on its standard input until told to run.

It is run by its path, not imported, so that it needs neither torch nor Secateur for ONNX and OpenVINO and starts in a
fraction of a second. It speaks lines of JSON: ``{"window": runs}`` is answered by ``{"ms": [...]}``, ``{"peak": true}`` by
``{"bytes": n}``, ``{"nodes": true}`` by ``{"nodes": [...]}``, the times of every operator in every run so far. When
its standard input closes, it ends. Spinning is off: a thread pool that spins after its turn would disturb the next
artifact's.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Run = Callable[[], Any]
Nodes = Callable[[], list[dict[str, Any]]]


def open_onnxruntime(spec: dict[str, Any], arrays: dict[str, Any]) -> tuple[Run, Nodes]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = spec["threads"]
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    if spec.get("profile"):
        options.enable_profiling = True
        options.profile_file_prefix = os.path.join(spec["folder"], f"profile-{os.getpid()}")
    mark_empty()
    session = ort.InferenceSession(spec["path"], options, providers=["CPUExecutionProvider"])
    feed = {value.name: arrays[value.name] for value in session.get_inputs()}
    fixed = [v.shape[0] for v in session.get_inputs() if v.shape and isinstance(v.shape[0], int)]
    if fixed and fixed[0] != spec["batch"]:
        raise ValueError(f"takes a batch of {fixed[0]} only; {spec['batch']} was asked")
    return lambda: session.run(None, feed), lambda: onnxruntime_nodes(session.end_profiling())


def onnxruntime_nodes(file: str) -> list[dict[str, Any]]:
    """The operators that ONNX Runtime's trace tells of; what runs several times in a loop adds up."""
    with open(file) as trace:
        events = json.load(trace)
    os.remove(file)
    runs = sorted((e["ts"], e["ts"] + e["dur"]) for e in events if e["name"] == "model_run")
    found: dict[str, dict[str, Any]] = {}
    kernels = (e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time"))
    turn = 0
    for event in sorted(kernels, key=lambda e: e["ts"]):
        while turn < len(runs) - 1 and event["ts"] > runs[turn][1]:
            turn += 1
        about = event["args"]
        key = f"{about['node_index']} {event['name']}"
        if key not in found:
            shapes = [shape for side in ("input", "output") for shape in tensor_shapes(about, side)]
            name = event["name"].removesuffix("_kernel_time")
            found[key] = {"op": about["op_name"], "name": name, "shapes": shapes, "ms": [0.0] * len(runs)}
        found[key]["ms"][turn] += event["dur"] / 1e3
    return list(found.values())


def tensor_shapes(about: dict[str, Any], side: str) -> list[list[int]]:
    return [shape for tensor in about.get(f"{side}_type_shape", []) for shape in tensor.values()]


def open_openvino(spec: dict[str, Any], arrays: dict[str, Any]) -> tuple[Run, Nodes]:
    import openvino

    core = openvino.Core()
    core.get_versions("CPU")  # loads what computes, which is part of the empty runtime
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": spec["threads"],
        "NUM_STREAMS": "1",
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
        "PERF_COUNT": bool(spec.get("profile")),
    }
    mark_empty()
    compiled = core.compile_model(core.read_model(spec["path"]), "CPU", settings)
    feed = {}
    for place, port in enumerate(compiled.inputs):
        named = [name for name in port.names if name in arrays]
        if not named:
            raise ValueError(f"takes {sorted(port.names)}; got {sorted(arrays)}")
        axis = port.get_partial_shape()[0] if len(port.get_partial_shape()) else None
        if axis is not None and axis.is_static and axis.get_length() != spec["batch"]:
            raise ValueError(f"takes a batch of {axis.get_length()} only; {spec['batch']} was asked")
        feed[place] = np.ascontiguousarray(arrays[named[0]])
    request = compiled.create_infer_request()

    def run() -> Any:
        return request.infer(feed, share_inputs=True, share_outputs=True)  # no copies, as ONNX Runtime makes none

    if not spec.get("profile"):
        return run, no_nodes
    counted = OpenVinoCounters(compiled, request, run)
    return counted.run, counted.nodes


class OpenVinoCounters:
    """Times of single operators from OpenVINO's counters, which are means over all runs so far, in microseconds, rounded
    down twice: each run, and the mean. The first runs, in which memory is touched for the first time, are taken out
    again. Each run is given its own part of what it took by the clock."""

    SETTLED = 2

    def __init__(self, compiled: Any, request: Any, run: Run) -> None:
        self._compiled, self._request, self._run = compiled, request, run
        self._ms: list[float] = []
        self._first: dict[str, float] = {}

    def run(self) -> Any:
        start = time.perf_counter_ns()
        outputs = self._run()
        self._ms.append((time.perf_counter_ns() - start) / 1e6)
        if len(self._ms) == self.SETTLED:
            self._first = {info.node_name: ms for info, ms in self._means()}
        return outputs

    def nodes(self) -> list[dict[str, Any]]:
        skipped = self.SETTLED if len(self._ms) > self.SETTLED else 0
        runs = len(self._ms) - skipped
        clock = sum(self._ms[skipped:]) / runs
        shapes = openvino_shapes(self._compiled.get_runtime_model())
        found = []
        for info, mean in self._means():
            mean = (mean * len(self._ms) - self._first.get(info.node_name, 0.0) * skipped) / runs
            part = max(0.0, mean) / clock
            found.append(
                {
                    "op": info.node_type,
                    "name": info.node_name,
                    "shapes": shapes.get(info.node_name, []),
                    "ms": [part * ms for ms in self._ms],
                }
            )
        return found

    def _means(self) -> list[tuple[Any, float]]:
        """Operators that ran, with their mean in milliseconds: two halves of a microsecond were lost in rounding."""
        executed = [info for info in self._request.profiling_info if str(info.status).endswith("EXECUTED")]
        whole = [info.real_time.total_seconds() * 1e3 for info in executed]
        return [(info, ms + 1e-3 if ms else 0.5e-3) for info, ms in zip(executed, whole, strict=True)]


def openvino_shapes(network: Any) -> dict[str, list[list[int]]]:
    """Of the inputs and then the outputs of each operator that runs, as they were last run."""
    found = {}
    for node in network.get_ordered_ops():
        shapes = [port.get_partial_shape() for port in (*node.inputs(), *node.outputs())]
        found[node.get_friendly_name()] = [list(s.to_shape()) for s in shapes if s.is_static]
    return found


def open_torch(spec: dict[str, Any], arrays: dict[str, Any]) -> tuple[Run, Nodes]:
    sys.path.append(spec["packages"])
    import torch

    from secateur.deploy import load_pt2

    torch.set_num_threads(spec["threads"])
    mark_empty()
    module = load_pt2(spec["path"]).program.module(check_guards=False)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    args, kwargs = ((), tensors) if spec["form"] == "dict" else (tuple(tensors.values()), {})

    def run() -> Any:
        with torch.inference_mode():
            return module(*args, **kwargs)

    return run, no_nodes


def no_nodes() -> list[dict[str, Any]]:
    raise ValueError("this runtime does not tell the times of single operators")


OPENERS = {"onnxruntime": open_onnxruntime, "openvino": open_openvino, "torch": open_torch}
_empty_bytes = 0


def mark_empty() -> None:
    """Remembers the memory of the runtime without an artifact, and lets the peak start anew from there."""
    global _empty_bytes
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass  # the peak then includes that of loading the runtime
    _empty_bytes = status_bytes("VmRSS")


def status_bytes(key: str) -> int:
    """A line of ``/proc/self/status`` in bytes, 0 where there is none."""
    try:
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith(key + ":"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def serve(spec: dict[str, Any], reply: Callable[[dict[str, Any]], None]) -> None:
    if spec["cores"] and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, spec["cores"])
    with np.load(spec["inputs"], allow_pickle=False) as stored:
        arrays = {name: stored[f"a{index}"] for index, name in enumerate(spec["names"])}
    run, nodes = OPENERS[spec["runtime"]](spec, arrays)
    run()
    reply({"ready": True})
    clock = time.perf_counter_ns
    for line in sys.stdin:
        command = json.loads(line)
        if "window" in command:
            times = []
            for _ in range(command["window"]):
                start = clock()
                run()
                times.append((clock() - start) / 1e6)
            reply({"ms": times})
        elif "nodes" in command:
            reply({"nodes": nodes()})
        else:
            reply({"bytes": max(0, status_bytes("VmHWM") - _empty_bytes)})


def main() -> int:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints must not be taken for an answer
    try:
        serve(json.loads(sys.argv[1]), lambda answer: print(json.dumps(answer), file=answers, flush=True))
    except (KeyboardInterrupt, BrokenPipeError):
        return 1
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
