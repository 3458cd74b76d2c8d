"""Distillation: the dense model's outputs as a second target while fine-tuning.

For classification the softened class probabilities of Hinton, Vinyals and Dean (2015), for anything else the
outputs themselves. The teacher is only read, in evaluation mode.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.data import Data, check_labels, is_classification, restore_modes, training_modes
from secateur.errors import RecipeError
from secateur.recovery.finetune import FineTune
from secateur.recovery.recoverer import Recoverer, Recovery, Setting
from secateur.task import Task, call, checked_loss, logits


@dataclass(frozen=True, eq=False)
class Distil(Recoverer):
    """Fine-tuning towards a teacher.

    Args:
        teacher: the dense model, on the device of the model that is recovered.
        temperature: softens both distributions; the term is scaled by its square, as in the paper.
        alpha: weight of the teacher's term; the task's loss has ``1 - alpha``. With 1, labels are not used.
        train: how it is trained.
    """

    teacher: nn.Module
    temperature: float = 4.0
    alpha: float = 0.7
    train: FineTune = field(default_factory=FineTune)

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise RecipeError(f"alpha must lie between 0 and 1; got {self.alpha}")
        if not self.temperature > 0:
            raise RecipeError(f"the temperature must be above 0; got {self.temperature}")

    def recover_(self, model: nn.Module, data: Data, task: Task, setting: Setting) -> Recovery:
        from secateur.recovery.loop import train_

        soft = is_classification(task)

        def objective(model: nn.Module, inputs: Any, target: Any) -> Tensor:
            with torch.no_grad():
                wanted = logits(call(self.teacher, inputs))
            outputs = logits(call(model, inputs))
            term = self._soft(outputs, wanted) if soft else F.mse_loss(outputs, wanted)
            if self.alpha == 1:
                return term
            check_labels(task, outputs, target)
            return self.alpha * term + (1 - self.alpha) * checked_loss(task, outputs, target)

        modes = training_modes(self.teacher)
        self.teacher.eval()
        try:
            options = f"distil {self.temperature} {self.alpha}"
            return train_(model, data, task, self.train, objective, setting, "distil", options)
        finally:
            restore_modes(modes)

    def _soft(self, outputs: Tensor, wanted: Tensor) -> Tensor:
        # Classes lie on axis 1 (also for dense prediction); the mean is over all other axes.
        student = F.log_softmax(outputs / self.temperature, dim=1)
        teacher = F.log_softmax(wanted / self.temperature, dim=1)
        term = F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=1).mean()
        return term * self.temperature**2
