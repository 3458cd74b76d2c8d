"""The interface of a recoverer, what it reports, and the two verbs."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from secateur.data import Data
from secateur.task import Task


@dataclass(frozen=True)
class EpochRecord:
    """One epoch: mean training loss, metric and loss on the held-out part, last learning rate, seconds."""

    epoch: int
    loss: float
    metric: float
    held_out_loss: float
    lr: float
    seconds: float


@dataclass(frozen=True)
class Recovery:
    """What a recovery did, measured on the held-out part of the training data.

    Args:
        kind: name of the recoverer.
        before, after: metric of the state before, and of the state that was kept.
        best_epoch: the epoch whose state was kept; 0 is the state before the recovery.
        epochs: one record each.
        steps: optimiser steps (or batches read, for statistics).
        seconds: spent, over all sittings.
        resumed: whether an earlier sitting was continued.
    """

    kind: str
    before: float
    after: float
    best_epoch: int
    epochs: tuple[EpochRecord, ...]
    steps: int
    seconds: float
    resumed: bool = False

    def to_json(self) -> dict[str, Any]:
        """The record as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Setting:
    """The circumstances of a recovery, apart from what it does.

    Args:
        seed: of the order of batches, augmentation and dropout.
        checkpoint: a folder of its own in which each finished epoch is kept; a recovery that was interrupted goes
            on from there, and gives the same result. One left by another recovery is ignored and replaced.
        quiet: no progress at all.
        what: how progress is labelled.
    """

    seed: int = 0
    checkpoint: Path | None = None
    quiet: bool = False
    what: str = "fine-tuning"


class Recoverer(ABC):
    """Something that improves a cut network on data."""

    @abstractmethod
    def recover_(self, model: nn.Module, data: Data, task: Task, setting: Setting) -> Recovery:
        """Changes ``model`` in place and leaves the best state found in it.

        The mode of every module, ``requires_grad`` and the user's random generators are as before afterwards,
        also when it raises.
        """


def recover_(
    model: nn.Module,
    data: Data,
    task: Task,
    recoverer: Recoverer | None = None,
    setting: Setting | None = None,
) -> Recovery:
    """Recovers a model in place. Default: :class:`FineTune` as it is.

    Raises:
        RecipeError: an option cannot be honoured (nothing to train, an unknown optimiser).
        DataError, TaskError: from the data and the task.
        NotFinite: the loss became NaN or infinite; the best state found before is in the model.
    """
    from secateur.recovery.finetune import FineTune

    return (recoverer or FineTune()).recover_(model, data, task, setting or Setting())


def recover(
    model: nn.Module,
    data: Data,
    task: Task,
    recoverer: Recoverer | None = None,
    setting: Setting | None = None,
) -> tuple[nn.Module, Recovery]:
    """Recovers a copy of a model; the one given is not changed.

    Raises:
        As :func:`recover_`.
    """
    twin = copy.deepcopy(model)
    return twin, recover_(twin, data, task, recoverer, setting)
