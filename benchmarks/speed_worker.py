"""One model pruned by one tool, in this process, with the seconds of every part; the record is written as JSON.

python benchmarks/speed_worker.py secateur timm:resnet18 record.json
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]

import torch  # noqa: E402
from measured import peak, size, write_record  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torchvision_operators import define  # noqa: E402
from zoo_models import build  # noqa: E402

KEPT = 0.5

Result = TypeVar("Result")


class Clock:
    """Seconds of named parts, by the wall and by the processor: the second is not disturbed by other processes.

    Parts may lie inside of each other; each then has its own share only, and parts of one name add up.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.processor: dict[str, float] = {}
        self._inner = [(0.0, 0.0)]

    def __call__(self, name: str, part: Callable[[], Result]) -> Result:
        """Runs one part, with no garbage of an earlier one waiting."""
        if len(self._inner) == 1:
            gc.collect()
        self._inner.append((0.0, 0.0))
        started = time.perf_counter(), time.process_time()
        try:
            return part()
        finally:
            took = time.perf_counter() - started[0], time.process_time() - started[1]
            inner, outer = self._inner.pop(), self._inner.pop()
            self._inner.append((outer[0] + took[0], outer[1] + took[1]))
            self.seconds[name] = self.seconds.get(name, 0.0) + took[0] - inner[0]
            self.processor[name] = self.processor.get(name, 0.0) + took[1] - inner[1]

    def inside(self, module: str, function: str, name: str) -> None:
        """From now on, a function of one of Secateur's files is a part of that name."""
        file = sys.modules[module]
        whole = getattr(file, function)
        setattr(file, function, lambda *a, **k: self(name, lambda: whole(*a, **k)))


def secateur_parts(model: nn.Module, x: Tensor, clock: Clock) -> nn.Module:
    """What ``sc.prune(model, x, keep=0.5)`` does, part by part: the same calls in the same order."""
    import secateur as sc
    from secateur.surgery import cut_groups

    clock.inside("secateur.graph.trace", "_export", "export")
    clock.inside("secateur.graph.trace", "_module", "export")  # torch.export's own way back to a module
    clock.inside("secateur.graph.trace", "check_faithful", "check")
    clock.inside("secateur.surgery.prepare", "_check", "check")
    clock.inside("secateur.surgery.cut", "verify", "check")
    graph = clock("form", lambda: sc.trace(model, x))
    groups = clock("groups", lambda: sc.find_groups(graph))
    scores = clock("score", lambda: sc.score(model, groups, sc.Magnitude(p=2)))
    plan = clock("plan", lambda: sc.allocate(scores, keep=KEPT))
    return clock("cut", lambda: cut_groups(groups, plan)).module


def peer_parts(model: nn.Module, x: Tensor, clock: Clock) -> nn.Module:
    """Torch-Pruning as its documentation shows it: half of every layer, the classifier left alone."""
    import torch_pruning as tp

    layers = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    classes = int(model(x).shape[-1])
    wide = [m for m in layers if getattr(m, "out_features", getattr(m, "out_channels", 0)) == classes]

    def dependencies() -> Any:
        return tp.pruner.MagnitudePruner(
            model,
            x,
            importance=tp.importance.MagnitudeImportance(p=2),
            pruning_ratio=1.0 - KEPT,
            ignored_layers=wide[-1:] or layers[-1:],
        )

    pruner = clock("groups", dependencies)
    clock("cut", pruner.step)
    return model


TOOLS = {"secateur": secateur_parts, "torch-pruning": peer_parts}


def main() -> int:
    """Builds the model, runs it once, prunes it, runs the result, and writes what it took."""
    tool, name, target = sys.argv[1:4]
    torch.set_num_threads(int(os.environ.get("ZOO_THREADS", "1")))
    define()
    model, x = build(name)
    record: dict[str, Any] = {
        "tool": tool,
        "model": name,
        "dense": size(model),
        "ran": False,
        "problem": None,
    }
    clock = Clock()
    try:
        with torch.no_grad():
            expected = model(x)
        pruned = TOOLS[tool](model, x, clock)
        record["peak_bytes"] = peak()
        with torch.no_grad():
            found = pruned(torch.cat([x, x]))
        if found.shape[1:] != expected.shape[1:]:
            raise ValueError(f"outputs of shape {list(found.shape)}, expected {list(expected.shape)}")
        record.update(ran=True, kept=size(pruned) / size(build(name)[0]))
    except Exception as error:
        line = (str(error).strip().splitlines() or ["no message"])[0]
        record["problem"] = f"{type(error).__name__}: {line[:200]}"
    write_record({**record, "seconds": clock.seconds, "processor": clock.processor}, target)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
