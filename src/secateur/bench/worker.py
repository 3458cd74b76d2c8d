"""The process that holds one artifact: loads it, then sleeps on its standard input until told to run.

It is run by its path, not imported, so that it needs neither torch nor Secateur for ONNX and OpenVINO and starts in a
fraction of a second. It speaks lines of JSON: ``{"window": runs}`` is answered by ``{"ms": [...]}``, ``{"peak": true}``
by ``{"bytes": n}``, ``{"nodes": true}`` by ``{"nodes": [...]}``, the times of every operator in every run so far. When
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
Opened = tuple[Run, Nodes, Callable[[], None]]  # the last is called before each window


def open_onnxruntime(spec: dict[str, Any], arrays: dict[str, Any]) -> Opened:
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
    return lambda: session.run(None, feed), lambda: onnxruntime_nodes(session.end_profiling()), nothing


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


def open_openvino(spec: dict[str, Any], arrays: dict[str, Any]) -> Opened:
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
    network = core.read_model(spec["path"])
    feed = {}
    for place, port in enumerate(network.inputs):
        named = [name for name in port.names if name in arrays]
        if not named:
            raise ValueError(f"takes {sorted(port.names)}; got {sorted(arrays)}")
        array, takes = np.ascontiguousarray(arrays[named[0]]), port.get_partial_shape()
        if not openvino.PartialShape(list(array.shape)).compatible(takes):
            raise ValueError(f"takes {named[0]} as {takes}; got {list(array.shape)}")
        feed[place] = array

    def compiled() -> tuple[Any, Any]:
        found = core.compile_model(network, "CPU", settings)
        return found, found.create_infer_request()

    if spec.get("profile"):
        counted = OpenVinoCounters(compiled, feed)
        return counted.run, counted.nodes, counted.begin
    _, request = compiled()
    # no copies, as ONNX Runtime makes none
    return lambda: request.infer(feed, share_inputs=True, share_outputs=True), no_nodes, nothing


class OpenVinoCounters:
    """Times of single operators from OpenVINO's counters.

    These are means over all runs since the network was compiled, in whole microseconds, rounded down twice: each run,
    and the mean. One disturbed run would stay in them for good. So the network is compiled anew for every window, the
    first runs, in which memory is touched for the first time, are taken out again, and a window's runs all get the
    window's mean.
    """

    SETTLED = 3

    def __init__(self, compiled: Callable[[], tuple[Any, Any]], feed: dict[int, Any]) -> None:
        self._open, self._feed = compiled, feed
        self._windows: list[tuple[int, dict[tuple[str, int], float]]] = []
        self._start()

    def begin(self) -> None:
        self._end()
        self._start()

    def run(self) -> Any:
        self._runs += 1
        return self._request.infer(self._feed, share_inputs=True, share_outputs=True)

    def nodes(self) -> list[dict[str, Any]]:
        self._end()
        shapes = openvino_shapes(self._compiled.get_runtime_model())
        found = []
        for key, info in self._executed().items():
            ms = [means.get(key, 0.0) for runs, means in self._windows for _ in range(runs)]
            name = info.node_name
            found.append({"op": info.node_type, "name": name, "shapes": shapes.get(name, []), "ms": ms})
        return found

    def _start(self) -> None:
        self._compiled, self._request = self._open()
        self._runs = 0
        for _ in range(self.SETTLED):
            self.run()
        self._first = self._totals()

    def _end(self) -> None:
        runs = self._runs - self.SETTLED
        if runs > 0:
            last = self._totals()
            means = {key: (ms - self._first.get(key, 0.0)) / runs for key, ms in last.items()}
            self._windows.append((runs, means))

    def _totals(self) -> dict[tuple[str, int], float]:
        """Milliseconds of each operator since it was compiled, half of what rounding may have taken given back."""
        whole = {key: info.real_time.total_seconds() * 1e3 for key, info in self._executed().items()}
        lost = {key: (self._runs - 0.5) * 1e-3 if ms else self._runs * 0.5e-3 for key, ms in whole.items()}
        return {key: ms * self._runs + lost[key] for key, ms in whole.items()}

    def _executed(self) -> dict[tuple[str, int], Any]:
        """What ran, by its kind and which of that kind it is: names may count how often anything was compiled."""
        seen: dict[str, int] = {}
        found = {}
        for info in self._request.profiling_info:
            if str(info.status).endswith(".EXECUTED"):
                seen[info.node_type] = seen.get(info.node_type, 0) + 1
                found[info.node_type, seen[info.node_type]] = info
        return found


def openvino_shapes(network: Any) -> dict[str, list[list[int]]]:
    """Of the inputs and then the outputs of each operator that runs, as they were last run."""
    found = {}
    for node in network.get_ordered_ops():
        shapes = [port.get_partial_shape() for port in (*node.inputs(), *node.outputs())]
        found[node.get_friendly_name()] = [list(s.to_shape()) for s in shapes if s.is_static]
    return found


def open_torch(spec: dict[str, Any], arrays: dict[str, Any]) -> Opened:
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

    return run, no_nodes, nothing


def no_nodes() -> list[dict[str, Any]]:
    raise ValueError("this runtime does not tell the times of single operators")


def nothing() -> None:
    """Nothing is to be done before a window."""


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
    run, nodes, begin = OPENERS[spec["runtime"]](spec, arrays)
    run()
    reply({"ready": True})
    clock = time.perf_counter_ns
    for line in sys.stdin:
        command = json.loads(line)
        if "window" in command:
            begin()
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
