"""A plan carried out on the dense model without training: the cut network, its batch-norm statistics measured anew.

What a plan keeps of the quality shows here before anything is spent on it. It is a ranking, not a promise: recovery
gives back most of what a cut takes, more to some plans than to others.
"""

from __future__ import annotations

from torch import nn

from secateur.pipeline.job import Job
from secateur.planning import Plan
from secateur.recovery import RecalibrateBatchNorm, Setting, recover_
from secateur.surgery import cut_groups


def untrained(job: Job, plan: Plan) -> nn.Module:
    """The dense model cut by a plan, with batch-norm statistics from training data where there are any."""
    module: nn.Module = cut_groups(job.groups, plan).module
    if job.has_batch_norm and job.labelled:
        setting = Setting(seed=job.recipe.seed, quiet=True)
        recover_(module, job.data, job.task, RecalibrateBatchNorm(), setting)
    return module
