"""A plan carried out without training: cut, and batch-norm statistics measured anew where there are any."""

from __future__ import annotations

from torch import nn

from secateur.pipeline.job import Job
from secateur.planning import Plan
from secateur.recovery import RecalibrateBatchNorm, Setting, recover_
from secateur.surgery import cut_groups


def untrained(job: Job, plan: Plan) -> nn.Module:
    """The dense model cut by a plan, with the recovery that costs no training."""
    module: nn.Module = cut_groups(job.groups, plan).module
    if job.has_batch_norm:
        setting = Setting(seed=job.recipe.seed, quiet=True)
        recover_(module, job.data, job.task, RecalibrateBatchNorm(), setting)
    return module
