"""What a candidate will take in the target, before it is cut: from networks of random widths measured there once.

Where the runtime or the device does not tell the times of operators there is no prediction, and multiply-adds drive
the search instead, along the measured response.
"""

from __future__ import annotations

from typing import Any

from secateur.bench import LocalDevice
from secateur.cost import Fit, FittedLatency
from secateur.latency import Pace, Survey, Where, fit_latency
from secateur.pipeline.artifacts import one_sample
from secateur.pipeline.job import Job, left_by
from secateur.planning import Plan


def prepare(job: Job, dtype: str, *, always: bool = False) -> Fit | None:
    """Measures what predictions are made from, if a budget needs them (or ``always``) and the target tells enough."""
    asked = always or any(a.kind in ("latency", "p95") for a in job.recipe.budget.amounts())
    where = Where(job.target.runtime, dtype, job.device or LocalDevice(), job.threads)
    if not (asked or job.recipe.minimise == "latency") or not where.tells_operators or not len(job.groups):
        return None
    job.folder.journal.step("latency", _measured, job, where)
    fit = fit_of_run(job)
    assert fit is not None
    job.say(
        f"  predictions of latency in {dtype} are off by {fit.median_error:.1%} at the median on networks left out, "
        f"{fit.p90_error:.1%} for nine in ten"
    )
    return fit


def fit_of_run(job: Job) -> Fit | None:
    """The fit that this run recorded."""
    record = job.folder.journal.steps.get("latency")
    return None if record is None else Fit.from_json(record)


def predicted_share(job: Job, plan: Plan | None) -> float | None:
    """Latency after a plan for the dense model, as a share of the dense model's in the same dtype."""
    fit = fit_of_run(job)
    if fit is None:
        return None
    if plan is None:
        return 1.0
    groups, alive = left_by(job, plan)
    cost = FittedLatency(groups.graph, fit).bind(groups)
    return cost.of(alive) / cost.dense


def _measured(job: Job, where: Where) -> dict[str, Any]:
    pace = Pace.within(20 * job.recipe.measure.seconds)
    survey = Survey(job.rounding, job.ties, pace, say=job.say)
    return fit_latency(job.groups, one_sample(job), where, survey).to_json()
