"""A model on a loader: metric, loss, and the outputs that both came from.

The outputs are kept (on the processor), because comparing two models sample by sample is what gives a drop its
interval. The model's mode and the user's generators are as before afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.data.check import batches_of, check_targets
from secateur.data.loaders import batch_size, tensors_in
from secateur.data.seeding import seeded
from secateur.errors import DataError, NotFinite
from secateur.task import Task, call, checked_loss, checked_metric, logits, split_batch, to_device


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model did on a loader.

    Args:
        metric: of the task, over all samples.
        loss: mean over all samples.
        outputs: what losses and metrics look at, concatenated along axis 0, on the processor.
        targets: the same for the targets.
        samples: how many there were.
    """

    metric: float
    loss: float
    outputs: Any
    targets: Any
    samples: int


def evaluate(
    model: Any, loader: Iterable[Any], task: Task, device: torch.device | str | None = None
) -> Evaluation:
    """Runs a model over a loader, in evaluation mode and without gradients.

    Args:
        model: an ``nn.Module``, or any callable that takes the inputs (an ONNX session in a wrapper).
        device: where batches go; default the model's own.

    Raises:
        DataError: the loader is empty or a label lies outside the model's output.
        TaskError: the loss or the metric fails.
        NotFinite: the model's outputs hold NaN.
    """
    target_device = device_of(model) if device is None else torch.device(device)
    modes = training_modes(model)
    if isinstance(model, nn.Module):
        model.eval()
    outputs, targets, total, samples = [], [], 0.0, 0
    try:
        with torch.no_grad(), seeded(0, target_device):
            for batch in batches_of(loader, "evaluation data"):
                inputs, target = to_device(split_batch(batch), target_device)
                out = logits(call(model, inputs))
                check_labels(task, out, target)
                check_outputs(out)
                size = batch_size(inputs)
                total += float(checked_loss(task, out, target)) * size
                samples += size
                outputs.append(to_device(out, "cpu"))
                targets.append(to_device(target, "cpu"))
    finally:
        restore_modes(modes)
    if not samples:
        raise DataError("the evaluation data are empty: the loader yields no samples")
    all_outputs, all_targets = joined(outputs), joined(targets)
    metric = checked_metric(task, all_outputs, all_targets)
    return Evaluation(metric, total / samples, all_outputs, all_targets, samples)


def check_labels(task: Task, outputs: Any, target: Any) -> None:
    """Class indices must lie within the model's output, where the task has classes.

    Raises:
        DataError: one does not.
    """
    if is_classification(task) and isinstance(outputs, Tensor) and isinstance(target, Tensor):
        if outputs.ndim >= 2 and not target.is_floating_point():
            check_targets(target, int(outputs.shape[1]))


def check_outputs(outputs: Any) -> None:
    """Outputs must not hold NaN (infinity is left alone: masked positions are infinite on purpose).

    Raises:
        NotFinite: they do.
    """
    for tensor in tensors_in(outputs):
        if tensor.is_floating_point() and bool(torch.isnan(tensor).any()):
            raise NotFinite(
                "the model's outputs hold NaN: check its weights, and that the inputs are scaled as it expects"
            )


def is_classification(task: Task) -> bool:
    """Whether targets are class indices: the loss is torch's cross-entropy, or the task names its classes."""
    return (
        task.loss is F.cross_entropy or isinstance(task.loss, nn.CrossEntropyLoss) or task.labels is not None
    )


def device_of(model: Any) -> torch.device:
    """The device of a model's first parameter or buffer; the processor if it has neither."""
    if isinstance(model, nn.Module):
        for tensor in [*model.parameters(), *model.buffers()]:
            return tensor.device
    return torch.device("cpu")


def training_modes(model: Any) -> list[tuple[nn.Module, bool]]:
    """The mode of every module, to be restored with :func:`restore_modes`."""
    return [(m, m.training) for m in model.modules()] if isinstance(model, nn.Module) else []


def restore_modes(modes: list[tuple[nn.Module, bool]]) -> None:
    """Puts every module back into its own mode (a frozen batch norm inside a training model stays frozen)."""
    if not modes:
        return
    modes[0][0].train(modes[0][1])  # the verb, for modules that do more than set a flag
    for module, training in modes:
        module.training = training


def joined(parts: list[Any]) -> Any:
    """Batches of outputs as one: tensors along axis 0, dicts by key, anything else as a flat list."""
    first = parts[0]
    if isinstance(first, Tensor):
        if first.ndim and len({p.shape[1:] for p in parts}) == 1:
            return torch.cat(parts)
        return torch.stack(parts) if not first.ndim else parts
    if isinstance(first, Mapping):
        return {key: joined([p[key] for p in parts]) for key in first}
    if isinstance(first, (list, tuple)):
        return [item for part in parts for item in part]
    return parts
