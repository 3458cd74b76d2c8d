"""What a run will take and what it starts from, said before any training."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from typing import Any

from torch import nn

from secateur.data import evaluate
from secateur.pipeline.degree import Degree, plan_for, smallest_plan
from secateur.pipeline.job import Job
from secateur.pipeline.rounds import count_rounds
from secateur.pipeline.untrained import untrained
from secateur.planning import Plan
from secateur.recipe import RecoveryOptions
from secateur.recovery import epoch_seconds
from secateur.task import Task


def forecast(job: Job, degree: Degree) -> None:
    """Records and says rounds, epochs and hours, and the metric of a cut to the degree before any recovery."""
    found = job.folder.journal.step("forecast", _forecast, job, degree)
    hours = "" if found["hours"] is None else f", about {_duration(found['hours'])} here"
    job.say(
        f"  {found['rounds']} rounds, {found['epochs']} epochs of training in all{hours}; cut to this degree at once "
        f"and not trained, the model has {job.task.name} {found['metric_untrained']:.4f}"
    )


def _forecast(job: Job, degree: Degree) -> dict[str, Any]:
    rounds = count_rounds(job, degree.shares)
    share = min(degree.shares.values(), default=1.0)
    return {
        "rounds": rounds,
        "epochs": job.recipe.recovery.epochs_over(rounds),
        "hours": training_hours(
            job.groups.graph.module, job.data.train, job.task, job.recipe.recovery, rounds, share
        ),
        "metric_untrained": _metric(job, plan_for(job, job.scores, degree.shares)),
    }


def training_hours(
    model: nn.Module, train: Iterable[Any], task: Task, options: RecoveryOptions, rounds: int, share: float
) -> float | None:
    """Hours that all recoveries take here on the way to a share of the cost; None where the loader has no length."""
    if not (options.epochs_over(rounds) or options.steps):
        return 0.0
    each = epoch_seconds(model, train, task)
    if each is None or not isinstance(train, Sized):
        return None
    return each * options.passes_over(rounds, share, len(train)) / 3600


def smallest_in_words(job: Job) -> str:
    """What the smallest model that can be cut keeps of the quality, before any recovery."""
    kept = job.folder.journal.step("smallest", _smallest, job)
    return (
        f"cut that far and not trained, the model has {job.task.name} {kept:.4f} on held-out data, the dense one "
        f"{job.held_out.metric:.4f}"
    )


def _smallest(job: Job) -> float:
    return _metric(job, smallest_plan(job))


def _metric(job: Job, plan: Plan) -> float:
    return evaluate(untrained(job, plan), job.data.select, job.task).metric


def _duration(hours: float) -> str:
    minutes = round(60 * hours)
    return f"{hours:.1f} hours" if hours >= 1 else f"{minutes} minutes" if minutes > 1 else "a minute"
