"""The training loop that fine-tuning and distillation share.

Every epoch seeds its own randomness from the setting's seed and its number, so an epoch depends on nothing but
the state at its start: that is what makes resuming exact. Modules are in training mode while an epoch lasts, so
batch norm and dropout behave as in the original training. A state is judged on the held-out part after each epoch.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from secateur.data import (
    Data,
    batch_size,
    device_of,
    evaluate,
    mixed,
    reseed,
    restore_modes,
    seeded,
    training_modes,
)
from secateur.errors import DataError, NotFinite, RecipeError
from secateur.recovery import checkpoint
from secateur.recovery.finetune import FineTune, Objective
from secateur.recovery.layout import fast_layout
from secateur.recovery.progress import Progress
from secateur.recovery.recoverer import EpochRecord, Recovery, Setting
from secateur.recovery.state import State, digest, put, taken
from secateur.task import Task, split_batch, to_device


@dataclass
class _Best:
    """The best state so far: a better metric wins, then a lower loss; among equals the earlier one."""

    state: State
    metric: float
    loss: float
    epoch: int = 0


@dataclass
class _Run:
    """What changes while training lasts."""

    best: _Best
    before: float
    step: int = 0
    seconds: float = 0.0
    epochs: list[EpochRecord] = field(default_factory=list)


def train_(
    model: nn.Module,
    data: Data,
    task: Task,
    options: FineTune,
    objective: Objective,
    setting: Setting,
    kind: str,
    extra: str = "",
) -> Recovery:
    """Trains a model in place and leaves the best state in it.

    Args:
        objective: the loss that is minimised.
        kind: name for the record; ``extra``: further options, for the identity of the checkpoint.

    Raises:
        RecipeError: no parameter of the model can be trained.
        DataError, TaskError: from the data and the task.
        NotFinite: the loss became NaN or infinite.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise RecipeError(
            "fine-tuning needs parameters with requires_grad=True and the model has none: unfreeze some, or switch "
            "fine-tuning off (epochs: 0)"
        )
    device = device_of(model)
    per_epoch = _length(data.train)
    total = options.epochs * per_epoch if options.steps is None else options.steps
    epochs = math.ceil(total / per_epoch)
    key = hashlib.sha256(
        f"{kind} {extra} {options!r} {setting.seed} {data.seed} {per_epoch} {digest(model)}".encode()
    ).hexdigest()
    optimizer = options.build(parameters)
    modes = training_modes(model)
    run, resumed = _begin(model, data, task, setting, key)
    try:
        with (
            seeded(setting.seed, device),
            fast_layout(model, data.select),
            Progress(setting.what, total, setting.quiet, run.step) as progress,
        ):
            if resumed is not None:
                checkpoint.restore_optimizer(optimizer, resumed.optimizer)
            for epoch in range(len(run.epochs), epochs):
                started = time.perf_counter()
                model.train()
                loss, lr = _epoch(
                    model, data, task, options, objective, optimizer, run, epoch, total, setting, progress
                )
                restore_modes(modes)
                _judge(model, data, task, run, epoch + 1, loss, lr, started)
                record = run.epochs[-1]
                progress.epoch(epoch + 1, epochs, loss, record.metric, record.seconds)
                if setting.checkpoint is not None:
                    checkpoint.save(setting.checkpoint, _point(model, run, optimizer, key))
    except BaseException:
        put(model, run.best.state)
        raise
    finally:
        restore_modes(modes)
        for parameter in parameters:
            parameter.grad = None
    if options.keep_best or not run.epochs:
        put(model, run.best.state)
        after, best_epoch = run.best.metric, run.best.epoch
    else:
        after, best_epoch = run.epochs[-1].metric, len(run.epochs)
    return Recovery(
        kind, run.before, after, best_epoch, tuple(run.epochs), run.step, run.seconds, resumed is not None
    )


def _epoch(
    model: nn.Module,
    data: Data,
    task: Task,
    options: FineTune,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    run: _Run,
    epoch: int,
    total: int,
    setting: Setting,
    progress: Progress,
) -> tuple[float, float]:
    """One pass; the mean loss and the last learning rate."""
    device = device_of(model)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    seed = mixed(setting.seed, epoch)
    if hasattr(data.train, "set_epoch"):
        data.train.set_epoch(seed % 2**31)
    reseed(seed)
    summed, samples, largest, lr = 0.0, 0, 0, options.lr
    norms = any(name.endswith("running_mean") for name, _ in model.named_buffers())
    for batch in data.train:
        if run.step >= total:
            break
        inputs, target = to_device(split_batch(batch), device)
        size = batch_size(inputs)
        largest = max(largest, size)
        if norms and size == 1 < largest:
            continue  # batch norm has no statistics of one sample; a remainder of one is left out
        lr = options.lr * options.schedule((run.step + 1) / (total + 1))
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad(set_to_none=True)
        loss = objective(model, inputs, target)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise NotFinite(
                f"the loss became {value} at step {run.step + 1} of {total} (epoch {epoch + 1}, learning rate "
                f"{lr:.3g}): lower the learning rate, or limit the gradient with clip"
            )
        loss.backward()
        if options.clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, options.clip)
        optimizer.step()
        run.step += 1
        summed += value * size
        samples += size
        progress.step(value)
    if not samples:
        raise DataError("the training data are empty: the loader yields no samples")
    return summed / samples, lr


def _begin(
    model: nn.Module, data: Data, task: Task, setting: Setting, key: str
) -> tuple[_Run, checkpoint.Checkpoint | None]:
    """The state before training, or the one an earlier sitting left."""
    point = checkpoint.load(setting.checkpoint, key) if setting.checkpoint is not None else None
    if point is None:
        start = evaluate(model, data.select, task)
        return _Run(_Best(taken(model), start.metric, start.loss), start.metric), None
    put(model, point.model)
    facts = point.facts
    best = _Best(point.best, facts["best_metric"], facts["best_loss"], facts["best_epoch"])
    epochs = [EpochRecord(**record) for record in facts["epochs"]]
    return _Run(best, facts["before"], facts["step"], facts["seconds"], epochs), point


def _point(model: nn.Module, run: _Run, optimizer: torch.optim.Optimizer, key: str) -> checkpoint.Checkpoint:
    facts = {
        "before": run.before,
        "best_metric": run.best.metric,
        "best_loss": run.best.loss,
        "best_epoch": run.best.epoch,
        "step": run.step,
        "seconds": run.seconds,
        "epochs": [asdict(record) for record in run.epochs],
    }
    return checkpoint.Checkpoint(key, taken(model), run.best.state, optimizer.state_dict()["state"], facts)


def _judge(
    model: nn.Module, data: Data, task: Task, run: _Run, epoch: int, loss: float, lr: float, started: float
) -> None:
    try:
        found = evaluate(model, data.select, task)
    except NotFinite as error:
        raise NotFinite(
            f"after epoch {epoch} (step {run.step}, learning rate {lr:.3g}) the model's outputs hold NaN: lower the "
            "learning rate, or limit the gradient with clip"
        ) from error
    sign = 1.0 if task.higher_is_better else -1.0
    if (sign * found.metric, -found.loss) > (sign * run.best.metric, -run.best.loss):
        run.best = _Best(taken(model), found.metric, found.loss, epoch)
    seconds = time.perf_counter() - started
    run.seconds += seconds
    run.epochs.append(EpochRecord(epoch, loss, found.metric, found.loss, lr, seconds))


def _length(loader: Iterable[Any]) -> int:
    """Batches in a pass; counted where the loader does not say."""
    try:
        count = len(loader)  # type: ignore[arg-type]
    except TypeError:
        count = sum(1 for _ in loader)
    if not count:
        raise DataError("the training data are empty: the loader yields no batches")
    return count
