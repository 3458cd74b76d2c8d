"""One model of the zoo, in this process: pruned by Secateur or by a peer; the record is written as JSON.

python benchmarks/zoo_worker.py secateur timm:resnet18 record.json
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]

import torch  # noqa: E402
from measured import heaviest, peak, size, touched, write_record  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torchvision_operators import define  # noqa: E402
from zoo_models import build  # noqa: E402

KEPT = 0.5


def secateur_pruned(model: nn.Module, x: Tensor, record: dict[str, Any]) -> nn.Module:
    """``sc.prune(model, x, keep=0.5)``, then the same cut checked again in double precision."""
    import secateur as sc
    from secateur.surgery import cut_groups

    started = time.perf_counter()
    result = sc.prune(model, x, keep=KEPT)
    record["seconds"] = time.perf_counter() - started
    record["peak_bytes"] = peak()  # what comes after belongs to the benchmark
    graph = result.groups.graph
    record["kept"] = size(result.model) / graph.parameters
    record["prunable"] = result.groups.prunable_share
    record["error"] = result.verification.max_relative_error
    record["kind"] = result.verification.kind
    record["unknown"] = dict(result.groups.unknown)
    heavy = heaviest(result.locked, touched(result.groups))
    record["locks"] = [f"{words} ({count:,})" for words, count in heavy]
    started = time.perf_counter()
    check = cut_groups(result.groups, result.plan, dtype=torch.float64).verification
    record["error_double"] = check.max_relative_error
    record["seconds_double"] = time.perf_counter() - started
    with torch.no_grad():  # the program that was cut is the user's model
        given = torch.cat([x, x.flip(-1)])
        record["trace_error"] = sc_error(graph.module(given), model(given))
    return result.model


def sc_error(found: Tensor, reference: Tensor) -> float:
    """Relative error of two outputs."""
    from secateur.surgery import relative_error

    return relative_error(found, reference)


def torch_pruned(model: nn.Module, x: Tensor, record: dict[str, Any]) -> nn.Module:
    """Torch-Pruning as its documentation shows it: half of every layer, the classifier left alone."""
    import torch_pruning as tp

    dense = size(model)
    layers = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    classes = int(model(x).shape[-1])
    wide = [m for m in layers if getattr(m, "out_features", getattr(m, "out_channels", 0)) == classes]
    started = time.perf_counter()
    pruner = tp.pruner.MagnitudePruner(
        model,
        x,
        importance=tp.importance.MagnitudeImportance(p=2),
        pruning_ratio=1.0 - KEPT,
        ignored_layers=wide[-1:] or layers[-1:],
    )
    pruner.step()
    record["seconds"] = time.perf_counter() - started
    record["peak_bytes"] = peak()
    record["kept"] = size(model) / dense
    return model


TOOLS = {"secateur": secateur_pruned, "torch-pruning": torch_pruned}


def main() -> int:
    """Builds the model, prunes it, runs the result, and writes what came of it."""
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
    with torch.no_grad():
        expected = model(x)
    if not bool(torch.isfinite(expected).all()):
        record["problem"] = "the dense model's outputs are not finite: the draw of its weights is at fault"
        return finish(record, target)
    record["spread"] = float(expected.std())
    started = time.perf_counter()
    try:
        pruned = TOOLS[tool](model, x, record)
        with torch.no_grad():
            shapes = [pruned(torch.cat([x] * n)).shape for n in (1, 3)]
        if [tuple(s) for s in shapes] != [(n, *expected.shape[1:]) for n in (1, 3)]:
            raise ValueError(f"outputs of shape {[list(s) for s in shapes]}, expected {list(expected.shape)}")
        record["ran"] = True
    except Exception as error:
        line = (str(error).strip().splitlines() or ["no message"])[0]
        record["problem"] = f"{type(error).__name__}: {line[:200]}"
        record.setdefault("seconds", time.perf_counter() - started)
    return finish(record, target)


def finish(record: dict[str, Any], target: str) -> int:
    """Writes the record."""
    write_record(record, target)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
