"""Fine-tuning: training goes on for a while at a small rate, with the task's own loss.

The options that matter and no more. The defaults (AdamW at 1e-4, cosine decay) hold up across architectures; for
networks that were trained by SGD, ``optimizer="sgd"`` with a tenth of the original rate is the classic choice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from secateur.data import Data, check_labels
from secateur.errors import RecipeError
from secateur.recovery.recoverer import Recoverer, Recovery, Setting
from secateur.recovery.schedules import Cosine, Schedule
from secateur.task import Task, call, checked_loss, logits

Objective = Callable[[nn.Module, Any, Any], Tensor]
"""``objective(model, inputs, target) -> loss``, a scalar."""


@dataclass(frozen=True)
class FineTune(Recoverer):
    """Continues training.

    Args:
        epochs: passes over the training part; 0 leaves the model as it is.
        steps: optimiser steps instead of epochs.
        optimizer: ``"adamw"``, or ``"sgd"`` with Nesterov momentum.
        lr: largest learning rate.
        weight_decay: on parameters with two axes or more (not on biases and norms).
        momentum: of ``"sgd"``.
        schedule: factor of the rate as a function of progress in [0, 1].
        clip: largest norm of the gradient over all parameters; ``None`` for no limit.
        keep_best: keep the state that did best on the held-out part, the one before training included; otherwise
            the last.
    """

    epochs: int = 1
    steps: int | None = None
    optimizer: str = "adamw"
    lr: float = 1e-4
    weight_decay: float = 0.01
    momentum: float = 0.9
    schedule: Schedule = field(default_factory=Cosine)
    clip: float | None = None
    keep_best: bool = True

    def __post_init__(self) -> None:
        if self.optimizer not in ("adamw", "sgd"):
            raise RecipeError(f"the optimiser must be 'adamw' or 'sgd'; got {self.optimizer!r}")
        if not self.lr > 0 or self.weight_decay < 0:
            raise RecipeError(
                f"lr must be above 0 and weight_decay at least 0; got {self.lr} and {self.weight_decay}"
            )
        if self.epochs < 0 or (self.steps is not None and self.steps < 0):
            raise RecipeError(f"epochs and steps must be at least 0; got {self.epochs} and {self.steps}")
        if self.clip is not None and not self.clip > 0:
            raise RecipeError(f"clip must be above 0 or None; got {self.clip}")

    def recover_(self, model: nn.Module, data: Data, task: Task, setting: Setting) -> Recovery:
        from secateur.recovery.loop import train_

        def objective(model: nn.Module, inputs: Any, target: Any) -> Tensor:
            outputs = logits(call(model, inputs))
            check_labels(task, outputs, target)
            return checked_loss(task, outputs, target)

        return train_(model, data, task, self, objective, setting, "finetune")

    def build(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser over the parameters that are trained."""
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        groups = [g for g in groups if g["params"]]
        if self.optimizer == "adamw":
            return torch.optim.AdamW(groups, lr=self.lr)
        return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum, nesterov=self.momentum > 0)
