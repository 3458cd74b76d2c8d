"""What a model is for: its loss, its metric, and how a batch is taken apart.

A batch is ``(inputs, target)`` or a dict with ``labels``. Inputs are a tensor, a tuple of positional
tensors, or a dict of keyword tensors. A :class:`Task` holds plain functions, so that any metric over
the whole evaluation set (accuracy, Spearman's correlation, mean average precision) fits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from secateur.errors import DataError, TaskError

Inputs = Tensor | tuple[Any, ...] | Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """Loss and metric of a task.

    Args:
        loss: ``loss(outputs, target) -> scalar tensor``, the mean over the batch.
        metric: ``metric(outputs, targets) -> float`` over all samples given, outputs and targets
            concatenated along axis 0. One point is 0.01.
        higher_is_better: whether a larger metric is better.
        labels: names of the classes, where targets are class indices; enables the class-by-class report.
        name: how the metric is called in reports.
    """

    loss: Callable[[Any, Any], Tensor]
    metric: Callable[[Any, Any], float]
    higher_is_better: bool = True
    labels: Sequence[str] | None = None
    name: str = "metric"


def accuracy(outputs: Tensor, targets: Tensor) -> float:
    """Share of samples whose largest logit is the target's. Shapes: ``[N, C]`` and ``[N]``."""
    return float((outputs.argmax(dim=-1) == targets).double().mean())


def classification(labels: Sequence[str] | None = None) -> Task:
    """The default task: cross-entropy and accuracy over logits ``[N, C]`` and class indices ``[N]``."""
    return Task(loss=F.cross_entropy, metric=accuracy, labels=labels, name="accuracy")


def split_batch(batch: Any) -> tuple[Inputs, Any]:
    """Takes a batch apart into the model's inputs and the target.

    Raises:
        DataError: the batch has neither form.
    """
    if isinstance(batch, Mapping):
        if "labels" not in batch:
            raise DataError(f"a batch given as a dict needs the key 'labels'; it has {sorted(batch)}")
        return {k: v for k, v in batch.items() if k != "labels"}, batch["labels"]
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        inputs, target = batch
        return (tuple(inputs) if isinstance(inputs, list) else inputs), target
    raise DataError(f"a batch is (inputs, target) or a dict with 'labels'; got {type(batch).__name__}")


def call(model: Callable[..., Any], inputs: Inputs) -> Any:
    """Calls a model with inputs in any of the three forms."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, tuple):
        return model(*inputs)
    return model(inputs)


def logits(outputs: Any) -> Any:
    """The tensor that losses and metrics look at: ``outputs.logits``, ``outputs['logits']``, the first of a
    tuple, or the output itself."""
    if isinstance(outputs, Tensor):
        return outputs
    if hasattr(outputs, "logits"):
        return outputs.logits
    if isinstance(outputs, Mapping) and outputs:
        return outputs["logits"] if "logits" in outputs else next(iter(outputs.values()))
    if isinstance(outputs, (tuple, list)) and outputs:
        return outputs[0]
    return outputs


def to_device(value: Any, device: torch.device | str) -> Any:
    """Moves every tensor in a nest of tuples, lists and dicts."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {k: to_device(v, device) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(to_device(v, device) for v in value)
    return value


def checked_loss(task: Task, outputs: Any, target: Any) -> Tensor:
    """The task's loss, as a finite scalar tensor.

    Raises:
        TaskError: the loss raised, is no scalar tensor, or is not finite.
    """
    try:
        loss = task.loss(logits(outputs), target)
    except Exception as error:
        raise TaskError(
            f"the task's loss failed with {type(error).__name__}: {_first_line(error)}"
        ) from error
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        raise TaskError(f"the task's loss must be a scalar tensor; got {type(loss).__name__}")
    return loss


def checked_metric(task: Task, outputs: Any, targets: Any) -> float:
    """The task's metric, as a finite float.

    Raises:
        TaskError: the metric raised or is not a finite number.
    """
    try:
        value = float(task.metric(outputs, targets))
    except Exception as error:
        raise TaskError(
            f"the task's metric failed with {type(error).__name__}: {_first_line(error)}"
        ) from error
    if value != value or value in (float("inf"), float("-inf")):
        raise TaskError(f"the task's metric is {value}; check the evaluation data and the model's outputs")
    return value


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]
