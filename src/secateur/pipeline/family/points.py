"""One budget of a sweep: solved, tried without training, and, for chosen ones, exported and measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from secateur.bench import Effort
from secateur.data import evaluate
from secateur.errors import Infeasible
from secateur.pipeline.artifacts import build, timed
from secateur.pipeline.degree import AIM, Dense, driver_of, plan_for, predicted_ms, reference_of
from secateur.pipeline.depth import with_depth
from secateur.pipeline.job import Job, counts
from secateur.pipeline.judge import artifact_evaluation
from secateur.pipeline.prediction import fit_of_run
from secateur.pipeline.untrained import untrained
from secateur.planning import Amount, Plan, dead_atoms
from secateur.scoring import Random, score

FINEST = 1e-6  # a share that no plan reaches


def asked_share(job: Job, dense: Dense, amount: Amount) -> float:
    """A budget as a share of the dense model's cost."""
    counted = job.dense_counts.get(amount.kind)
    base = dense.value(amount.kind) if counted is None else counted
    return amount.value if amount.relative else min(1.0, amount.value / base)


def least_share(job: Job, dense: Dense, kind: str) -> float:
    """The smallest share of the dense model's cost that a plan can have, as far as it can be told without measuring."""
    scores = score(job.model, job.groups, Random(), cells=False)  # what is possible does not depend on them
    try:
        plan_for(job, scores, {driver_of(job, kind): FINEST})
    except Infeasible as error:
        return _share_of_driver(job, dense, driver_of(job, kind), error.nearest or 0.0)
    return FINEST


def middle_shares(job: Job, dense: Dense, amounts: Sequence[Amount]) -> dict[str, float]:
    """The shares of the middle one of several budgets."""
    amount = amounts[len(amounts) // 2]
    driver = driver_of(job, amount.kind)
    return {driver: _aimed(job, dense, driver, asked_share(job, dense, amount))}


def solved(job: Job, dense: Dense, amount: Amount) -> dict[str, Any]:
    """The plan for a budget, in ``plans/``, with what it costs and, if there are data, what it keeps untrained."""
    share, driver = asked_share(job, dense, amount), driver_of(job, amount.kind)
    shares = {driver: _aimed(job, dense, driver, share)}
    chosen = with_depth(job, shares, f"depth {amount.asked}") if job.labelled else job
    try:
        plan = plan_for(chosen, chosen.scores, shares)
    except Infeasible as error:
        least = _share_of_driver(job, dense, driver, error.nearest or 0.0)
        return {"share": share, "plan": None, "reason": _words(amount, driver, least)}
    path = job.folder.root / plan_file(amount)
    plan.save(path)
    told = predicted_ms(job, dense, plan).get(dense.dtype(job))
    left = counts(job, plan)
    quality: dict[str, Any] = {"metric": None, "loss": None}
    if job.labelled:
        found = evaluate(untrained(job, plan), job.data.select, job.task)
        quality = {"metric": found.metric, "loss": found.loss}
    return {
        "share": share,
        "plan": plan_file(amount),
        "digest": plan.to_json()["digest"],
        **left,
        "predicted_ms": told,
        "predicted_ratio": None if told is None else told / dense.latency_ms,
        "predicted_bytes": round(dense.size * left["params"] / job.dense_counts["params"]),
        "removed": list(plan.removed),
        "kept": None if plan.removed else _kept(job, plan),
        **quality,
    }


def measured(job: Job, dense: Dense, amount: Amount) -> dict[str, Any]:
    """The artifact of a budget's plan, as it comes out without training, timed in turn with the dense reference."""
    plan = Plan.load(job.folder.root / plan_file(amount))
    where = f"artifacts/{amount.asked.replace(' ', '')}"
    artifacts = build(job, untrained(job, plan), where, amount.asked, job.target.dtypes)
    reference = reference_of(dense)
    effort = Effort(width=job.recipe.measure.width, seconds=job.recipe.measure.seconds)
    told = predicted_ms(job, dense, plan)
    timings = timed(job, [reference, *artifacts], f"sweep {amount.asked}", reference.name, effort, told)
    fastest = min((t for t in timings if t["artifact"] != reference.name), key=lambda t: t["ratio"])
    chosen = next(a for a in artifacts if a.name == fastest["artifact"])
    metric = artifact_evaluation(job, chosen, held_out=True).metric if job.labelled else None
    return {
        "artifact": str(chosen.path),
        "dtype": chosen.dtype,
        "median_ms": fastest["median_ms"],
        "ratio": fastest["ratio"],
        "ratio_interval": fastest["ratio_interval"],
        "size_bytes": chosen.bytes,
        "metric": metric,
        "max_relative_error": chosen.max_relative_error,
        "loaded": fastest["loaded"],
        "timings": timings,
    }


def plan_file(amount: Amount) -> str:
    """Where the plan of a budget is, inside the sweep's folder."""
    return f"plans/{amount.asked.replace(' ', '')}.json"


def _aimed(job: Job, dense: Dense, driver: str, share: float) -> float:
    """The share of the driver's cost to plan for: of a predicted latency a little less, as ``compress`` begins."""
    if driver != "latency" or share >= 1.0:
        return share
    return min(1.0, share * AIM / dense.ratio(dense.dtype(job)))


def _share_of_driver(job: Job, dense: Dense, driver: str, amount: float) -> float:
    """An absolute cost of the solver's, as a share of the dense reference's."""
    if driver != "latency":
        return amount / job.dense_counts[driver]
    from secateur.cost import FittedLatency

    fit = fit_of_run(job)
    assert fit is not None
    whole = FittedLatency(job.groups.graph, fit).bind(job.groups).dense
    return amount / whole * dense.ratio(dense.dtype(job)) / AIM


def _words(amount: Amount, driver: str, least: float) -> str:
    costs = {"latency": "takes, as predicted,", "params": "has", "macs": "has"}[driver]
    what = {"latency": "the dense latency", "params": "the parameters", "macs": "the multiply-adds"}[driver]
    return f"cannot be met: the smallest network that can be cut {costs} {least:.3g}x of {what}"


def _kept(job: Job, plan: Plan) -> float:
    """The share of the saliency that stays; where criteria do not compare groups, each group counts by its mean."""
    dead = dead_atoms(job.groups, plan)
    stays, total = 0.0, 0.0
    for group in job.groups:
        values = job.scores.aligned(group.name)
        if not job.scores.comparable:
            values = values / max(float(values.mean()), 1e-30)
        gone = np.isin(np.asarray(group.atoms).reshape(group.units, -1)[:, 0], dead)
        stays, total = stays + float(values[~gone].sum()), total + float(values.sum())
    return stays / total if total > 0 else 1.0
