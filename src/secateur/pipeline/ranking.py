"""``criterion: auto``: the criteria compared where it counts, at the cost that was asked, before the first round.

Each makes its plan as a run would, for the same cost; the plan is carried out and recovered without training, and the
loss on held-out batches ranks them. Differences are judged by a paired bootstrap over these samples: what cannot be
told from the best is as good, and the simplest such is used. Random units stand beside them as a control.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from secateur.data import Difference, Evaluation, evaluate, metric_difference
from secateur.errors import Infeasible
from secateur.pipeline.criteria import CONTROL, RANKED
from secateur.pipeline.degree import Dense, driver_of, first_shares, plan_for, smallest_plan
from secateur.pipeline.job import Job, counts, scored
from secateur.pipeline.prediction import predicted_share, prepare
from secateur.pipeline.untrained import untrained
from secateur.scoring import save_scores
from secateur.task import Task

RESAMPLES = 400
HALF = 0.5  # of the cost, where only quality has a budget


def settle_criterion(job: Job, dense: Dense, shares: Mapping[str, float] | None = None) -> Job:
    """The job with a criterion: ranked, if the recipe leaves the choice open, with the table recorded.

    Args:
        shares: of the dense model's costs, that plans are made for; those that the budgets ask for by default.
    """
    if job.recipe.criterion.name != "auto":
        return job
    prepare(job, dense.dtype(job))
    record = job.folder.journal.step("criterion", _ranked, job, shares or asked_shares(job, dense))
    job.say(f"  criterion: {record['words']}")
    return replace(job)  # without what was scored before


def asked_shares(job: Job, dense: Dense) -> dict[str, float]:
    """Shares of the dense costs that the budgets ask for; half of what is minimised, where only quality has one."""
    if job.recipe.minimise is None:
        return first_shares(job, dense)
    return {driver_of(job, job.recipe.minimise): HALF}


def _ranked(job: Job, shares: Mapping[str, float]) -> dict[str, Any]:
    rows, scores, tried = [], [], []
    for given in RANKED:
        options = replace(job.recipe.criterion, **given)  # type: ignore[arg-type]
        found = scored(job, job.model, job.groups, options)
        try:
            plan = plan_for(job, found, shares)
        except Infeasible:
            plan = smallest_plan(job, found)  # which is over the budget, too: said when it is measured
        result = evaluate(untrained(job, plan), job.data.select, job.task)
        left = counts(job, plan)
        row = {
            "criterion": found.criterion,
            "options": asdict(options),
            "control": options.name == CONTROL,
            "loss": result.loss,
            "metric": result.metric,
            "params": left["params"],
            "macs": left["macs"],
            "predicted_latency": predicted_share(job, plan),
        }
        job.say(f"  {found.criterion}: loss {result.loss:.4f}, {job.task.name} {result.metric:.4f} untrained")
        rows.append(row)
        scores.append(found)
        tried.append(result)
    used, words = _chosen(job, rows, tried)
    save_scores(scores[used], job.scores_file)  # what was scored is not scored again
    return {
        "asked": "auto",
        "used": rows[used]["criterion"],
        "chosen": rows[used]["options"],
        "words": words,
        "shares": dict(shares),
        "samples": tried[0].samples,
        "ranking": rows,
    }


def _chosen(job: Job, rows: Sequence[dict[str, Any]], tried: Sequence[Evaluation]) -> tuple[int, str]:
    """Which row is used, and why; every row is told its difference to the best, and its place."""
    own = [i for i, row in enumerate(rows) if not row["control"]]
    best = min(own, key=lambda i: rows[i]["loss"])
    close = []
    for place, i in enumerate(sorted(range(len(rows)), key=lambda i: rows[i]["loss"]), start=1):
        difference = loss_difference(tried[best], tried[i], job.task, job.recipe.seed)
        alike = i == best or difference.interval[0] <= 0.0
        rows[i] |= {
            "place": place,
            "loss_above_best": difference.delta,
            "interval": list(difference.interval),
            "within_noise": alike,
        }
        if alike and i in own:
            close.append(i)
    used = min(close)
    words = f"{rows[used]['criterion']} has the lowest loss on held-out data, {rows[used]['loss']:.4f}"
    if used != best:
        words = (
            f"{rows[used]['criterion']} is used: its loss on held-out data, {rows[used]['loss']:.4f}, cannot be told "
            f"from that of {rows[best]['criterion']}, {rows[best]['loss']:.4f}, and it is simpler"
        )
    elif len(close) > 1:
        words += "; others cannot be told from it, and none of them is simpler"
    if any(row["control"] and row["within_noise"] for row in rows):
        words += "; random units do as well here, so the choice matters little at this cost"
    return used, words


def loss_difference(best: Evaluation, other: Evaluation, task: Task, seed: int) -> Difference:
    """By how much a loss is above the best one's, with a paired bootstrap interval over samples."""

    def loss(outputs: Any, targets: Any) -> float:
        return float(task.loss(outputs, targets))

    first, second = replace(best, metric=best.loss), replace(other, metric=other.loss)
    return metric_difference(first, second, replace(task, metric=loss), seed=seed, resamples=RESAMPLES)
