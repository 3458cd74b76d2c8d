"""What a run will take and what it starts from, said before any training."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

from secateur.data import evaluate
from secateur.pipeline.degree import Degree, plan_for, smallest_plan
from secateur.pipeline.job import Job
from secateur.pipeline.rounds import count_rounds, shares_at
from secateur.pipeline.untrained import untrained
from secateur.planning import Plan
from secateur.recovery import epoch_seconds


def forecast(job: Job, degree: Degree) -> None:
    """Records and says rounds, epochs and hours, and the metric of a cut to the degree before any recovery."""
    found = job.folder.journal.step("forecast", _forecast, job, degree)
    hours = "" if found["hours"] is None else f", about {_duration(found['hours'])} here"
    job.say(
        f"  {found['rounds']} rounds, {found['epochs']} epochs of training in all{hours}; cut to this degree at once "
        f"and not trained, the model has {job.task.name} {found['metric_untrained']:.4f}"
    )


def _forecast(job: Job, degree: Degree) -> dict[str, Any]:
    rounds, options = count_rounds(job, degree.shares), job.recipe.recovery
    epochs = options.epochs_over(rounds)
    each = None
    if epochs or options.steps:
        each = epoch_seconds(job.groups.graph.module, job.data.train, job.task)
    hours = None
    if each is not None:
        left = [min(shares_at(degree.shares, n / rounds).values(), default=1.0) for n in range(1, rounds + 1)]
        passes = [float(options.epochs)] * (rounds - 1) + [float(options.final_epochs)]
        if options.steps is not None and isinstance(job.data.train, Sized):
            passes = [options.steps / len(job.data.train)] * rounds
        hours = each * sum(p * share for p, share in zip(passes, left, strict=True)) / 3600
    return {
        "rounds": rounds,
        "epochs": epochs,
        "hours": hours if epochs or options.steps else 0.0,
        "metric_untrained": _metric(job, plan_for(job, job.scores, degree.shares)),
    }


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
