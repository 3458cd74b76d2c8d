"""Recovery: giving a cut network back what the cut took.

Every recoverer is a small frozen object with one method; :func:`recover` applies one to a copy of a model,
:func:`recover_` in place. All of them judge a state on the held-out part of the training data, count the state
before they began among the candidates, and so never return a model that is worse there. To add one: subclass
:class:`Recoverer` in a file of its own and write ``recover_``.
"""

from secateur.recovery.batchnorm import RecalibrateBatchNorm
from secateur.recovery.carry import carry_optimizer
from secateur.recovery.distil import Distil
from secateur.recovery.finetune import FineTune
from secateur.recovery.forecast import epoch_seconds
from secateur.recovery.reconstruct import (
    Reconstruct,
    Reconstruction,
    Walk,
    counting,
    picked,
    reconstruct_,
    some_batches,
)
from secateur.recovery.recoverer import EpochRecord, Recoverer, Recovery, Setting, recover, recover_
from secateur.recovery.schedules import Constant, Cosine

__all__ = [
    "Constant",
    "Cosine",
    "Distil",
    "EpochRecord",
    "FineTune",
    "RecalibrateBatchNorm",
    "Reconstruct",
    "Reconstruction",
    "Recoverer",
    "Recovery",
    "Setting",
    "Walk",
    "carry_optimizer",
    "counting",
    "epoch_seconds",
    "picked",
    "reconstruct_",
    "recover",
    "recover_",
    "some_batches",
]
