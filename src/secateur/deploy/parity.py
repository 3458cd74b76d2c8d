"""The gate: an artifact counts only if it says what the model says, on real batches.

Compared are all outputs, by the largest |artifact - model| over the largest |model|, and the task's metric. Floats must
agree closely. INT8 may differ more, since how much its metric loses is for the budget's ``drop`` to judge; but outputs
of another shape, or not finite where the model's are, are refused in every dtype.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from secateur.deploy.inputs import named_tensors
from secateur.deploy.program import evaluation_copy
from secateur.deploy.runtime import Outputs
from secateur.deploy.runtimes import runtime_named
from secateur.errors import DataError, ParityError
from secateur.task import Task, call, checked_metric, logits, split_batch, to_device

FLOAT_LIMIT = 1e-3
DEFAULT_LIMITS: dict[str, float | None] = {"fp32": FLOAT_LIMIT, "int8": None}


@dataclass(frozen=True)
class Parity:
    """How far an artifact is from its model. Metrics are fractions, ``None`` without a task."""

    max_relative_error: float
    metric_model: float | None
    metric_artifact: float | None


class Evaluation(NamedTuple):
    """The metric of an artifact, and the logits and targets ``[N, ...]`` that gave it."""

    metric: float
    outputs: Any
    targets: Any


def check_parity(
    path: str | Path,
    runtime: str,
    model: nn.Module,
    batches: Iterable[Any],
    task: Task | None = None,
    limit: float | None = FLOAT_LIMIT,
    threads: int = 1,
) -> Parity:
    """Compares an artifact with the model it came from.

    Args:
        path: the artifact.
        runtime: the name of its runtime.
        model: the model it was exported from; copied, compared in eval mode on the CPU.
        batches: real batches, ``(inputs, target)`` or dicts with ``labels``.
        task: gives the metric; without one only outputs are compared.
        limit: largest relative error allowed; ``None`` refuses only shapes and values that are not finite.
        threads: of the runtime.

    Raises:
        ParityError: the artifact differs by more; the message names it, the error and the limit.
        DataError: there are no batches.
    """
    session = runtime_named(runtime).load(path, threads)
    reference = evaluation_copy(model)
    largest: dict[str, float] = {}
    difference: dict[str, float] = {}
    seen: list[tuple[Any, Any, Any]] = []
    for batch in batches:
        inputs, target = split_batch(batch)
        inputs = to_device(inputs, "cpu")
        with torch.no_grad():
            expected = call(reference, inputs)
        actual = session(inputs)
        for name, want, got in _pairs(path, expected, actual):
            gap, size = _distance(path, name, want, got)
            difference[name] = max(difference.get(name, 0.0), gap)
            largest[name] = max(largest.get(name, 0.0), size)
        if task is not None:
            seen.append((logits(expected), logits_like(expected, actual), target))
    if not largest:
        raise DataError("the parity gate needs at least one batch; none was given")
    error = max(difference[name] / largest[name] if largest[name] else difference[name] for name in largest)
    if limit is not None and error > limit:
        raise ParityError(
            f"{path} differs from the model it came from by {error:.2g} of the largest output; "
            f"at most {limit:g} is allowed"
        )
    if task is None:
        return Parity(error, None, None)
    wanted, given, targets = (_joined(column) for column in zip(*seen, strict=True))
    return Parity(error, checked_metric(task, wanted, targets), checked_metric(task, given, targets))


def evaluate_artifact(
    path: str | Path, runtime: str, batches: Iterable[Any], task: Task, threads: int = 1
) -> Evaluation:
    """The task's metric of an artifact over a loader.

    Raises:
        DataError: there are no batches.
        TaskError: the metric fails.
    """
    session = runtime_named(runtime).load(path, threads)
    outputs, targets = [], []
    for batch in batches:
        inputs, target = split_batch(batch)
        outputs.append(logits(session(to_device(inputs, "cpu"))))
        targets.append(target)
    if not outputs:
        raise DataError("evaluation needs at least one batch; the loader gave none")
    joined, wanted = _joined(outputs), _joined(targets)
    return Evaluation(checked_metric(task, joined, wanted), joined, wanted)


def logits_like(expected: Any, actual: Outputs) -> Tensor:
    """The artifact's output at the position of the model's logits."""
    if isinstance(actual, Tensor):
        return actual
    chosen = logits(expected)
    for want, got in zip(named_tensors(expected, "output").values(), actual.values(), strict=True):
        if want is chosen:
            return got
    found: Tensor = logits(actual)
    return found


def _pairs(path: str | Path, expected: Any, actual: Outputs) -> list[tuple[str, Tensor, Tensor]]:
    want = named_tensors(expected, "output")
    got = {"output": actual} if isinstance(actual, Tensor) else actual
    if len(want) != len(got):
        raise ParityError(f"{path} has {len(got)} outputs, the model it came from {len(want)}")
    return [(name, a, b) for (name, a), b in zip(want.items(), got.values(), strict=True)]


def _distance(path: str | Path, name: str, want: Tensor, got: Tensor) -> tuple[float, float]:
    """Largest absolute difference and largest finite absolute value of the model's output."""
    if want.shape != got.shape:
        raise ParityError(
            f"{path}: output {name!r} has shape {tuple(got.shape)}, the model's {tuple(want.shape)}"
        )
    if want.numel() == 0:
        return 0.0, 0.0
    want, got = want.detach().cpu().double(), got.detach().cpu().double()
    finite = want.isfinite()
    if bool((finite != got.isfinite()).any()) or not bool(
        torch.equal(want[~finite].sign(), got[~finite].sign())
    ):
        raise ParityError(f"{path}: output {name!r} is not finite where the model's is, or the reverse")
    if not bool(finite.any()):
        return 0.0, 0.0
    return float((want - got)[finite].abs().max()), float(want[finite].abs().max())


def _joined(parts: Iterable[Any]) -> Any:
    items = list(parts)
    first = items[0]
    if isinstance(first, Tensor):
        return torch.cat([item.detach().cpu() for item in items])
    if isinstance(first, dict):
        return {key: _joined(item[key] for item in items) for key in first}
    if isinstance(first, (tuple, list)):
        return type(first)(_joined(column) for column in zip(*items, strict=True))
    return items
