"""A plan carried out on the dense model without training: cut, its weights solved again, its statistics measured anew.

What a plan keeps of the quality shows here before anything is spent on it. It is a ranking, not a promise: training
gives back most of what a cut takes, more to some plans than to others.
"""

from __future__ import annotations

from torch import nn

from secateur.pipeline.job import Job
from secateur.pipeline.quality import recovery_task
from secateur.planning import Plan
from secateur.recovery import RecalibrateBatchNorm, Reconstruct, Recovery, Setting, recover_
from secateur.surgery import Cut, cut_groups

FEW = 256  # inputs that are enough to compare plans on


def untrained(job: Job, plan: Plan, few: bool = True) -> nn.Module:
    """The dense model cut by a plan, with what gives quality back without training, where there are training data.

    Args:
        few: whether to reconstruct on a few inputs, to compare plans, or on as many as a run does.
    """
    cut = cut_groups(job.groups, plan)
    if job.labelled:
        reconstructed(job, cut, job.recipe.seed, few)
        if job.has_batch_norm:
            setting = Setting(seed=job.recipe.seed, quiet=True)
            recover_(cut.module, job.data, job.task, RecalibrateBatchNorm(), setting)
    return cut.module


def reconstructed(job: Job, cut: Cut, seed: int, few: bool = False) -> Recovery | None:
    """Solves a cut model's weights again in place, where the recipe asks for that and it does no harm."""
    samples = job.recipe.recovery.reconstruct
    if not samples:
        return None
    recoverer = Reconstruct(cut, samples=min(samples, FEW) if few else samples)
    return recover_(cut.module, job.data, recovery_task(job), recoverer, Setting(seed=seed, quiet=True))
