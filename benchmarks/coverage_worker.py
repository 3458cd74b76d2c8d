"""One model of the coverage benchmark, in this process: traced, every group cut at random, checked; the record as JSON.

python benchmarks/coverage_worker.py timm resnet18 record.json

The source (``timm``, ``torchvision``, ``hf``) is a module ``coverage_SOURCE`` beside this file with ``names() ->
list[str]`` and ``build(name) -> (module in evaluation mode with randomised weights, small example inputs)``; it may
say with ``has_head(name) -> bool`` whether a layer of its own makes the outputs, else the graph is asked.
"""

from __future__ import annotations

import importlib
import sys
import time
import zlib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from coverage_model import measured, tensors  # noqa: E402
from coverage_own_module import own_module_error  # noqa: E402
from measured import heaviest, held, peak, size, touched  # noqa: E402
from torch import Tensor, fx, nn  # noqa: E402
from torch.utils import _pytree as pytree  # noqa: E402
from zoo_models import settle_attention, settle_statistics  # noqa: E402

from secateur.coupling import Groups, find_groups  # noqa: E402
from secateur.errors import NotExportable  # noqa: E402
from secateur.graph import Graph, op_name, split_inputs, trace  # noqa: E402
from secateur.planning import plan_of  # noqa: E402
from secateur.surgery import Sizes, cut_groups, emit, relative_error  # noqa: E402

LEAST, MOST = 0.3, 0.5
"""Share of the units that is removed from each group, drawn between these."""

OTHER_BATCH = 3


def measure(source: Any, name: str, record: dict[str, Any]) -> None:
    """Builds, traces, cuts and checks one model; what is known when something fails stays in the record."""
    model, inputs = source.build(name)
    record["dense"], record["built_bytes"] = size(model), peak()
    args, kwargs = split_inputs(inputs)
    settle_statistics(model, args, kwargs)
    settle_attention(model, args, kwargs)
    clock = _Clock(record)
    with torch.no_grad():
        expected = _shapes(model(*args, **kwargs))
    clock("forward")
    record["forward_bytes"] = peak()
    try:
        graph = trace(model, inputs)
    except NotExportable as refusal:
        record["refused"] = str(refusal)[:600]
        raise
    clock("export")
    record |= {
        "nodes": len(graph.nodes),
        "dynamic": graph.dynamic,
        "parameters": graph.parameters,
        "folded": len(graph.folded) + constants(model, graph),
    }
    groups = find_groups(graph)
    clock("analysis")
    record["head"] = source.has_head(name) if hasattr(source, "has_head") else has_head(graph)
    record |= {
        "groups": len(groups), "units": sum(g.units for g in groups), "prunable": groups.prunable_share,
        "single": sum(g.units == 1 for g in groups), "unknown": dict(groups.unknown),
    }  # fmt: skip
    record["locks"] = heaviest(groups.locked, held(groups))
    record["locked_axes"] = heaviest(groups.locked, touched(groups))  # the other axes may be free
    dead = random_atoms(groups, zlib.crc32(name.encode()))
    plan = plan_of(groups, dead)
    clock.start()
    emit(groups, Sizes(groups.coupling, groups.coupling.alive(dead)))
    clock("cut")
    cut = cut_groups(groups, plan)
    clock("check")
    # The check is what comes on top of a cut, which may be slower the first time than the whole the second.
    record["seconds_check"] = max(record["seconds_check"] - record["seconds_cut"], 0.0)
    record["peak_bytes"] = peak()  # what comes after belongs to the benchmark
    record["kept"] = size(cut.module) / max(graph.parameters, 1)
    record["error"], record["kind"] = cut.verification.max_relative_error, cut.verification.kind
    record["error_outputs"] = cut.verification.at_outputs
    check = cut_groups(groups, plan, dtype=torch.float64).verification
    record["error_double"], record["worst"] = check.max_relative_error, check.worst
    record["trace_error"] = trace_error(model, graph)
    _run(cut.module, args, kwargs, expected)
    if graph.dynamic:
        _run(cut.module, *_widened((args, kwargs)), None)
    record["ran"] = True
    del cut
    record["own_module"] = own_module_error(model, groups, dead)


def constants(model: nn.Module, graph: Graph) -> int:
    """How many tensors of numbers, computed once and rounded to single precision, the program holds for itself."""
    own = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}
    held = (graph.tensor(name) for name in graph.state_names() if name not in own)
    return sum(t.is_floating_point() and t.numel() > 1 for t in held)


class _Clock:
    """Processor seconds of each step, into the record: other processes do not disturb them."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.record = record
        self.start()

    def start(self) -> None:
        """Begins a step."""
        self.started = time.process_time()

    def __call__(self, step: str) -> None:
        """Ends a step and begins the next."""
        self.record[f"seconds_{step}"] = time.process_time() - self.started
        self.start()


def random_atoms(groups: Groups, seed: int) -> np.ndarray:
    """What to remove: of every group 30 to 50 % of its units, at least one of two or more, never all."""
    rng = np.random.default_rng(seed)
    dead = [np.empty(0, dtype=np.int64)]
    for group in groups:
        count = int(np.rint(group.units * rng.uniform(LEAST, MOST)))
        dead.append(rng.permutation(group.atoms)[: min(count, group.units - 1)])
    return np.concatenate(dead)


_BEFORE_A_HEAD = frozenset(
    f"aten::{name}"
    for name in ("linear", "conv1d", "conv2d", "conv3d", "addmm", "mm", "matmul", "bmm", "einsum", "convolution",
                 "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
)  # fmt: skip
_STREAM = frozenset(
    f"aten::{name}"
    for name in ("add", "add_", "layer_norm", "rms_norm", "batch_norm", "group_norm", "cat", "embedding",
                 "scaled_dot_product_attention")
)  # fmt: skip


def has_head(graph: Graph) -> bool:
    """Whether every output comes from a layer of its own, rather than from the residual stream or a norm of it."""
    output = next(n for n in graph.nodes if n.op == "output")
    return all(_from_a_layer(leaf) for leaf in output.all_input_nodes if _floating(leaf))


def _from_a_layer(node: fx.Node) -> bool:
    while node.op == "call_function":
        kind = op_name(node)
        if kind in _BEFORE_A_HEAD:
            return True
        sources = [n for n in node.all_input_nodes if n.op == "call_function" and _floating(n)]
        if kind in _STREAM and not (kind.startswith("aten::add") and len(sources) < 2):
            return False
        if not sources:
            return True
        node = sources[0]
    return True


def _floating(node: fx.Node) -> bool:
    value = node.meta.get("val")
    values = value if isinstance(value, (tuple, list)) else [value]
    return any(isinstance(v, Tensor) and v.is_floating_point() for v in values)


def trace_error(model: nn.Module, graph: Graph) -> float:
    """How far the program is from the user's model, on inputs other than the examples."""

    def other(value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        # Not the last axis, if there is another: it may be a record whose fields differ in meaning.
        return value.flip(next((i for i in range(1, value.dim()) if value.shape[i] > 1), 0))

    args, kwargs = pytree.tree_map(other, (graph.args, dict(graph.kwargs)))
    with torch.no_grad():
        ours, theirs = (tensors(m(*args, **kwargs)) for m in (graph.module, model))
    return max((relative_error(o, t) for o, t in zip(ours, theirs, strict=True)), default=0.0)


def _run(module: nn.Module, args: Any, kwargs: Any, expected: list[list[int]] | None) -> None:
    with torch.no_grad():
        found = _shapes(module(*args, **kwargs))
    if expected is not None and found != expected:
        raise ValueError(f"the cut program gives outputs of shape {found}, the model {expected}")


def _widened(inputs: Any) -> Any:
    def wide(value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.dim():
            return value
        return torch.cat([value] * OTHER_BATCH)[:OTHER_BATCH]

    return pytree.tree_map(wide, inputs)


def _shapes(outputs: Any) -> list[list[int]]:
    return [list(t.shape) for t in tensors(outputs)]


def warm(kind: str) -> None:
    """Imports what every model of a source needs."""
    package = "transformers" if kind == "hf" else kind
    for name in ("torch._dynamo", "torch.export", f"coverage_{kind}", package):
        importlib.import_module(name)


def main(kind: str, name: str, target: str) -> int:
    """Measures one model and writes what came of it."""
    return measured(measure, kind, name, target)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:4]))
