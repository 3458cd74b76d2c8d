"""Two evaluations on the same samples, compared in pairs; class by class where targets are class indices.

Resampling the pairs instead of each model on its own removes the spread of the samples, which is far larger than
the difference looked for. A class in which nothing changed among few samples is not proof that nothing ever
changes: half a count is added to each outcome, so that the interval of a small class stays honest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from secateur.data.evaluation import Evaluation
from secateur.errors import DataError
from secateur.task import Task, checked_metric

Z95 = 1.959963984540054


@dataclass(frozen=True)
class ClassAccuracy:
    """Accuracy of one class, with Wilson's interval (1927) at 95 %."""

    name: str
    accuracy: float
    interval: tuple[float, float]
    samples: int


@dataclass(frozen=True)
class ClassDelta:
    """One class before and after: accuracies, their difference (after minus before) and its 95 % interval."""

    name: str
    dense: float
    pruned: float
    delta: float
    interval: tuple[float, float]
    samples: int


@dataclass(frozen=True)
class Difference:
    """A metric before and after, their difference (after minus before) and its 95 % interval."""

    dense: float
    pruned: float
    delta: float
    interval: tuple[float, float]


def per_class(
    outputs: Tensor, targets: Tensor, labels: Sequence[str] | None = None
) -> tuple[ClassAccuracy, ...]:
    """Accuracy of every class that occurs. Shapes: outputs ``[N, C]``, targets ``[N]``.

    Raises:
        DataError: the shapes differ from these.
    """
    right = _right(outputs, targets)
    result = []
    for index in targets.unique().tolist():
        hits = right[targets == index]
        count, correct = hits.numel(), int(hits.sum())
        result.append(ClassAccuracy(_name(index, labels), correct / count, wilson(correct, count), count))
    return tuple(result)


def class_deltas(
    dense: Evaluation,
    pruned: Evaluation,
    labels: Sequence[str] | None = None,
    *,
    seed: int = 0,
    resamples: int = 4000,
) -> tuple[ClassDelta, ...]:
    """What happened to each class, worst first, with paired bootstrap intervals.

    Raises:
        DataError: the evaluations are not on the same samples, or not of shapes ``[N, C]`` and ``[N]``.
    """
    _same_samples(dense, pruned)
    targets = dense.targets
    before, after = _right(dense.outputs, targets), _right(pruned.outputs, targets)
    generator = torch.Generator().manual_seed(seed)
    result = []
    for index in targets.unique().tolist():
        of_class = targets == index
        a, b = before[of_class], after[of_class]
        count = a.numel()
        gained, lost = int((b & ~a).sum()), int((a & ~b).sum())
        delta = (gained - lost) / count
        interval = _resampled(gained, lost, count, resamples, generator)
        result.append(
            ClassDelta(
                _name(index, labels),
                float(a.double().mean()),
                float(b.double().mean()),
                delta,
                (min(interval[0], delta), max(interval[1], delta)),
                count,
            )
        )
    return tuple(sorted(result, key=lambda c: (c.delta, c.interval[0], c.name)))


def metric_difference(
    dense: Evaluation, pruned: Evaluation, task: Task, *, seed: int = 0, resamples: int = 1000
) -> Difference:
    """The change of the task's metric, with a paired bootstrap over samples (Efron, 1979).

    Outputs and targets must be tensors, or nests of tensors, with the samples along axis 0. A resample on which
    the metric is not defined is left out.

    Raises:
        DataError: the evaluations are not on the same samples.
        TaskError: the metric fails on all samples.
    """
    _same_samples(dense, pruned)
    delta = pruned.metric - dense.metric
    generator = torch.Generator().manual_seed(seed)
    draws = []
    for _ in range(resamples):
        pick = torch.randint(dense.samples, (dense.samples,), generator=generator)
        targets = _taken(dense.targets, pick)
        try:
            draws.append(
                float(task.metric(_taken(pruned.outputs, pick), targets))
                - float(task.metric(_taken(dense.outputs, pick), targets))
            )
        except Exception:  # a metric may be undefined on a resample (one class only)
            continue
    draws = [d for d in draws if math.isfinite(d)]
    if not draws:
        checked_metric(task, dense.outputs, dense.targets)
        draws = [delta]
    low, high = _quantiles(torch.tensor(draws, dtype=torch.float64))
    return Difference(dense.metric, pruned.metric, delta, (min(low, delta), max(high, delta)))


def wilson(correct: int, count: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval (1927) of a share; it stays within [0, 1] and is not empty at 0 and 1."""
    if count == 0:
        return (0.0, 1.0)
    share = correct / count
    scale = 1 + z * z / count
    centre = (share + z * z / (2 * count)) / scale
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / scale
    return (max(0.0, centre - half), min(1.0, centre + half))


def _resampled(
    gained: int, lost: int, count: int, resamples: int, generator: torch.Generator
) -> tuple[float, float]:
    # A resample of pairs only matters through how many it holds that gained and that lost: two binomial draws.
    weight = count + 1.5
    up, down = (gained + 0.5) / weight, (lost + 0.5) / weight
    n = torch.full((resamples,), float(count), dtype=torch.float64)
    ups = torch.binomial(n, torch.full_like(n, up), generator=generator)
    downs = torch.binomial(n - ups, torch.full_like(n, down / (1 - up)), generator=generator)
    return _quantiles((ups - downs) / count)


def _quantiles(draws: Tensor) -> tuple[float, float]:
    low, high = torch.quantile(draws, torch.tensor([0.025, 0.975], dtype=draws.dtype)).tolist()
    return low, high


def _right(outputs: Any, targets: Any) -> Tensor:
    if not (
        isinstance(outputs, Tensor)
        and isinstance(targets, Tensor)
        and outputs.ndim == 2
        and targets.ndim == 1
    ):
        raise DataError("accuracy by class needs outputs of shape [N, C] and class indices of shape [N]")
    return outputs.argmax(dim=1) == targets


def _same_samples(dense: Evaluation, pruned: Evaluation) -> None:
    same = dense.samples == pruned.samples
    if same and isinstance(dense.targets, Tensor) and isinstance(pruned.targets, Tensor):
        same = torch.equal(dense.targets, pruned.targets)
    if not same:
        raise DataError(
            "the two evaluations are not on the same samples in the same order; evaluate both on one loader"
        )


def _taken(value: Any, pick: Tensor) -> Any:
    if isinstance(value, Tensor):
        return value[pick]
    if isinstance(value, Mapping):
        return {k: _taken(v, pick) for k, v in value.items()}
    return [value[i] for i in pick.tolist()]


def _name(index: int, labels: Sequence[str] | None) -> str:
    return str(labels[index]) if labels is not None and 0 <= index < len(labels) else str(index)
