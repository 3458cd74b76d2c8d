"""The loop: cut a part, recover, evaluate, record, and again.

Every round begins from the model that the last one left on the disk, in a resumed run and in an undisturbed one
alike, so that both decide the same. A round is done when its line is in the journal; its model and its plan
are on the disk before that.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from secateur.bench import Effort
from secateur.coupling import Groups
from secateur.data import evaluate
from secateur.errors import Infeasible
from secateur.pipeline.artifacts import build, timed
from secateur.pipeline.criteria import made
from secateur.pipeline.degree import DRIVERS, Degree, Dense, driver_of, plan_for, predicted_ms, share_of
from secateur.pipeline.job import Costs, Job, points_lost, regroup, scored
from secateur.pipeline.prediction import prepare
from secateur.planning import Care, Plan, dead_atoms
from secateur.recovery import Cosine, Distil, FineTune, RecalibrateBatchNorm, Recoverer, Setting, recover_
from secateur.scoring import Scores
from secateur.surgery import cut_groups, load, save

FACTOR = 0.85  # of the cost that is left, when only a quality budget says where to stop
LONGEST = 24  # rounds, then


@dataclass(frozen=True)
class State:
    """Where the loop is.

    Args:
        number: of the last round.
        model: after it, on the disk in ``rounds/<number>``; the dense model for round 0.
        plan: from the dense model to this one; None for round 0.
    """

    number: int
    model: nn.Module
    plan: Plan | None


@dataclass(frozen=True)
class Step:
    """What one round does.

    Args:
        shares: of the dense counts, to cut to.
        dtype: of the short measurement after it.
        care: floors, for this round.
        last: whether it is recovered for as long as a last round.
        plan: what is cut, where that is settled; the shares are then not looked at.
    """

    shares: Mapping[str, float]
    dtype: str
    care: Care
    last: bool
    plan: Plan | None = None


def count_rounds(job: Job, shares: Mapping[str, float]) -> int:
    """As many rounds as keep each below the recipe's share of what is left."""
    if job.recipe.schedule.rounds is not None:
        return job.recipe.schedule.rounds
    smallest = min(shares.values(), default=1.0)
    if smallest >= 1.0:
        return 1
    # Just above, so that a round of exactly the allowed share does not become two.
    return max(1, math.ceil(math.log(smallest) / math.log(1.0 - job.recipe.schedule.most) - 1e-9))


def shares_at(shares: Mapping[str, float], progress: float) -> dict[str, float]:
    """The schedule: shares of the dense counts at progress in [0, 1]; the same fraction of the rest each time."""
    return {kind: share**progress for kind, share in shares.items()}


def run_rounds(job: Job, dense: Dense, degree: Degree) -> State:
    """Cuts to the degree, round by round."""
    state = State(0, job.model, None)
    total = count_rounds(job, degree.shares)
    for number in range(1, total + 1):
        care = Care(least=0.1 ** (1 / total), edges=0.5 ** (1 / total))
        step = Step(shares_at(degree.shares, number / total), degree.dtype, care, last=number == total)
        state = one_round(job, dense, state, step)
    return state


def run_plan(job: Job, dense: Dense, plan: Plan) -> tuple[State, Degree]:
    """Cuts to a plan that was picked before, in one round, recovered as a last one is."""
    dtype = dense.dtype(job)
    prepare(job, dtype)
    alive = job.groups.coupling.alive(dead_atoms(job.groups, plan))
    drivers = {driver_of(job, a.kind) for a in job.recipe.budget.amounts() if a.kind in DRIVERS}
    shares = {driver: share_of(job, driver, alive, plan) for driver in sorted(drivers)}
    state = one_round(
        job, dense, State(0, job.model, None), Step(shares, dtype, Care(), last=True, plan=plan)
    )
    return state, Degree(shares, dtype)


def run_until_quality(job: Job, dense: Dense) -> tuple[State, Degree]:
    """Cuts until the quality budget breaks on held-out data, and goes back to the last state that kept it."""
    driver = "params" if job.recipe.minimise in ("size", "params") else "macs"
    if job.recipe.minimise == "latency" and prepare(job, dense.dtype(job)) is not None:
        driver = "latency"
    states = [State(0, job.model, None)]
    share, dtype = 1.0, job.target.dtypes[-1]
    drop = job.recipe.budget.get("drop") or job.recipe.budget.get("class_drop")
    assert drop is not None
    for _ in range(LONGEST):
        share *= FACTOR
        try:
            state = one_round(job, dense, states[-1], Step({driver: share}, dtype, Care(), last=True))
        except Infeasible:
            break
        record = job.folder.journal.steps[f"round {state.number}"]
        if points_lost(job.task, dense.metric, record["metric_after"]) > drop.value:
            job.say(f"  round {state.number} breaks the quality budget: back to round {states[-1].number}")
            break
        states.append(state)
    share = share if len(states) == LONGEST + 1 else share / FACTOR
    return states[-1], Degree({driver: share}, dtype)


def one_round(job: Job, dense: Dense, state: State, step: Step) -> State:
    """Cuts ``state`` to shares of the dense counts, recovers, and records the round."""
    number = state.number + 1
    home = job.folder.round(number)
    record = job.folder.journal.step(f"round {number}", _work, job, dense, state, step)
    job.say(
        f"  round {number}: {record['fraction_cut']:.0%} cut, {job.task.name} {record['metric_before']:.4f} after "
        f"the cut, {record['metric_after']:.4f} after recovery"
    )
    return State(number, load(home), Plan.load(home / "plan.json"))


def _work(job: Job, dense: Dense, state: State, step: Step) -> dict[str, Any]:
    start = time.perf_counter()
    number = state.number + 1
    home = job.folder.round(number)
    groups = job.groups if state.plan is None else regroup(job, state.model)
    plan = step.plan or plan_for(job, _scores(job, state, groups), step.shares, step.care)
    cut = cut_groups(groups, plan)
    model = cut.module
    before = evaluate(model, job.data.select, job.task).metric
    after, recovered = before, None
    recoverer = _recoverer(job, step.last)
    if recoverer is not None:
        setting = Setting(
            seed=job.recipe.seed + number,
            checkpoint=home / "recovery",
            quiet=job.quiet,
            what=f"round {number}",
        )
        recovered = recover_(model, job.data, job.task, recoverer, setting)
        after = recovered.after
    whole = plan if state.plan is None else state.plan.then(plan)
    save(model, home)
    whole.save(home / "plan.json")
    expected = predicted_ms(job, dense, whole)
    timing = _latency(job, dense, model, number, step.dtype, expected)
    params, macs = _counts(job, groups, plan)
    return {
        "round": number,
        "fraction_cut": 1.0 - macs / job.dense_counts["macs"],
        "params": params,
        "macs": macs,
        "predicted_latency_ms": expected.get(step.dtype),
        "latency_ms": timing["ratio"] * dense.latency_ms if timing else None,
        "latency_ratio": timing["ratio"] if timing else None,
        "metric_before": before,
        "metric_after": after,
        "seconds": time.perf_counter() - start,
        "criterion": None if step.plan is not None else str(made(job.criterion, job.recipe.seed)),
        "verification": cut.verification.max_relative_error,
        "recovery": recovered.to_json() if recovered else None,
        "timings": [timing] if timing else [],
    }


def _scores(job: Job, state: State, groups: Groups) -> Scores:
    return job.scores if state.plan is None else scored(job, state.model, groups)


def _recoverer(job: Job, last: bool) -> Recoverer | None:
    options = job.recipe.recovery
    epochs = options.final_epochs if last else options.epochs
    if options.steps is None and epochs == 0:
        return RecalibrateBatchNorm() if job.has_batch_norm else None
    train = FineTune(
        epochs=max(epochs, 1),
        steps=options.steps,
        optimizer=options.optimizer,
        lr=options.lr,
        weight_decay=options.weight_decay,
        schedule=Cosine(),
    )
    if not options.distil:
        return train
    return Distil(job.groups.graph.module, temperature=options.temperature, alpha=options.alpha, train=train)


def _latency(
    job: Job, dense: Dense, model: nn.Module, number: int, dtype: str, expected: Mapping[str, float | None]
) -> dict[str, Any] | None:
    """A short measurement beside the reference, for the curve."""
    if not job.recipe.measure.rounds:
        return None
    artifacts = build(job, model, f"probes/round-{number}", f"round-{number}", (dtype,))
    reference = next(a for a in dense.artifacts if a.name == dense.reference)
    effort = Effort(width=0.05, seconds=job.recipe.measure.seconds / 4)
    timings = timed(job, [reference, *artifacts], f"round {number}", reference.name, effort, expected)
    return next(t for t in timings if t["artifact"] != reference.name)


def _counts(job: Job, groups: Groups, plan: Plan) -> tuple[int, int]:
    costs = Costs.of(groups)
    alive = groups.coupling.alive(dead_atoms(groups, plan))
    return round(costs.params.of(alive)), round(costs.macs.of(alive))
