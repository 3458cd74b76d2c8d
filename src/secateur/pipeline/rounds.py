"""The loop: cut a part, recover, evaluate, record, and again.

Every round begins from the model that the last one left on the disk, in a resumed run and in an undisturbed one
alike, so that both decide the same. A round is done when its line is in the journal; its model and its plan
are on the disk before that.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from secateur.bench import Effort
from secateur.coupling import Groups
from secateur.data import evaluate
from secateur.deploy import Artifact
from secateur.pipeline.artifacts import build, timed
from secateur.pipeline.criteria import made
from secateur.pipeline.degree import (
    DRIVERS,
    Degree,
    Dense,
    count_shares,
    driver_of,
    measured_kinds,
    plan_for,
    predicted_ms,
    reference_of,
    share_of,
)
from secateur.pipeline.job import Costs, Job, regroup, scored
from secateur.pipeline.judge import artifact_evaluation
from secateur.pipeline.prediction import prepare
from secateur.pipeline.quality import lost, recovery_task
from secateur.pipeline.untrained import reconstructed
from secateur.planning import Care, Plan, dead_atoms
from secateur.recovery import (
    Cosine,
    Distil,
    FineTune,
    RecalibrateBatchNorm,
    Recoverer,
    Setting,
    recover_,
)
from secateur.surgery import cut_groups, load, save

STEADY = 0.1  # a round's short measurement moves the target by no more than this share of it


@dataclass(frozen=True)
class State:
    """Where the loop is.

    Args:
        number: of the last round.
        model: after it, on the disk in ``rounds/<number>``; the dense model for round 0.
        plan: from the dense model to this one; None for round 0.
        path: numbers of the rounds that lead here, this one last.
        made: how many rounds there were until now, with those that were given up.
    """

    number: int
    model: nn.Module
    plan: Plan | None
    path: tuple[int, ...] = ()
    made: int = 0


@dataclass(frozen=True)
class Step:
    """What one round does.

    Args:
        shares: of the dense counts, to cut to.
        dtype: of the short measurement after it.
        care: floors, for this round.
        last: whether it is recovered for as long as a last round.
        plan: what is cut, where that is settled; the shares are then not looked at.
        cuts: whether anything is cut, or the model as it is recovered once more.
    """

    shares: Mapping[str, float]
    dtype: str
    care: Care
    last: bool
    plan: Plan | None = None
    cuts: bool = True


def count_rounds(job: Job, shares: Mapping[str, float]) -> int:
    """As many rounds as keep each below the recipe's share of what is left."""
    return job.recipe.schedule.count(min(shares.values(), default=1.0))


def shares_at(shares: Mapping[str, float], progress: float) -> dict[str, float]:
    """The schedule: shares of the dense counts at progress in [0, 1]; the same fraction of the rest each time."""
    return {kind: share**progress for kind, share in shares.items()}


def run_rounds(job: Job, dense: Dense, degree: Degree) -> list[State]:
    """Cuts to the degree, round by round; the states after each, the dense one first.

    What a round's artifact measures corrects the target of those after it, the more, the nearer the end is.
    """
    states = [State(0, job.model, None)]
    total = count_rounds(job, degree.shares)
    shares = dict(degree.shares)
    for number in range(1, total + 1):
        care = Care(least=0.1 ** (1 / total), edges=0.5 ** (1 / total))
        step = Step(shares_at(shares, number / total), degree.dtype, care, last=number == total)
        states.append(one_round(job, dense, states[-1], step))
        shares = _corrected(job, degree, step.shares, record_of(job, states[-1])["uses"], number / total)
    return states


def run_plan(job: Job, dense: Dense, plan: Plan) -> tuple[list[State], Degree]:
    """Cuts to a plan that was picked before, in one round, recovered as a last one is."""
    dtype = dense.dtype(job)
    prepare(job, dtype)
    drivers = {driver_of(job, a.kind) for a in job.recipe.budget.amounts() if a.kind in DRIVERS}
    shares = {driver: share_of(job, driver, plan) for driver in sorted(drivers)}
    start, step = State(0, job.model, None), Step(shares, dtype, Care(), last=True, plan=plan)
    return [start, one_round(job, dense, start, step)], Degree(shares, dtype)


def _corrected(
    job: Job, degree: Degree, now: Mapping[str, float], uses: Mapping[str, float], progress: float
) -> dict[str, float]:
    """Targets that use each measured budget as the degree's candidate did, going by what this round really used."""
    factors: dict[str, float] = {}
    for kind, used in uses.items():
        driver = driver_of(job, kind)
        expected = degree.uses[kind] * now[driver] / degree.shares[driver]
        factor = min(max(expected / used, 1.0 - STEADY), 1.0 + STEADY)
        factors[driver] = min(factor, factors.get(driver, factor))
    limits = count_shares(job)
    return {
        driver: min(share * factors.get(driver, 1.0) ** progress, limits.get(driver, 1.0))
        for driver, share in degree.shares.items()
    }


def record_of(job: Job, state: State) -> dict[str, Any]:
    """What was recorded of a round."""
    record: dict[str, Any] = job.folder.journal.steps[f"round {state.number}"]
    return record


def one_round(job: Job, dense: Dense, state: State, step: Step) -> State:
    """Cuts ``state`` to shares of the dense counts, recovers, and records the round."""
    number = state.made + 1
    home = job.folder.round(number)
    record = job.folder.journal.step(f"round {number}", _work, job, dense, state, step)
    job.say(
        f"  round {number}: {record['fraction_cut']:.0%} cut, {job.task.name} {record['metric_before']:.4f} after "
        f"the cut, {_reconstruction(record)}{record['metric_after']:.4f} after recovery"
    )
    return State(number, load(home), Plan.load(home / "plan.json"), (*state.path, number), number)


def _reconstruction(record: Mapping[str, Any]) -> str:
    found = record["metric_reconstructed"]
    return "" if found is None else f"{found:.4f} after reconstruction, "


def counts_after(job: Job, state: State, step: Step) -> tuple[int, int]:
    """Parameters and multiply-adds that a step would leave.

    Raises:
        Infeasible: the step cannot be planned.
    """
    return _counts(job, *_planned(job, state, step))


def _planned(job: Job, state: State, step: Step) -> tuple[Groups, Plan]:
    groups = job.start if state.plan is None else regroup(job, state.model)
    if not step.cuts:
        return groups, Plan(groups.graph.fingerprint, {}, groups.removal.names)
    if step.plan is not None:
        return groups, step.plan
    scores = job.scores if state.plan is None else scored(job, state.model, groups)
    return groups, plan_for(job, scores, step.shares, step.care)


def _work(job: Job, dense: Dense, state: State, step: Step) -> dict[str, Any]:
    start = time.perf_counter()
    number = state.made + 1
    home = job.folder.round(number)
    groups, plan = _planned(job, state, step)
    cut = cut_groups(groups, plan)
    model = cut.module
    solved = reconstructed(job, cut, job.recipe.seed + number) if step.cuts else None
    before = solved.before if solved else evaluate(model, job.data.select, job.task).metric
    recovered = None
    recoverer = _recoverer(job, step.last)
    if recoverer is not None:
        setting = Setting(
            seed=job.recipe.seed + number,
            checkpoint=home / "recovery",
            quiet=job.quiet,
            what=f"round {number}",
        )
        recovered = recover_(model, job.data, recovery_task(job), recoverer, setting)
    after = evaluate(model, job.data.select, job.task)
    whole = plan if state.plan is None else state.plan.then(plan)
    save(model, home)
    whole.save(home / "plan.json")
    expected = predicted_ms(job, dense, whole)
    artifact, timing = _measured(job, dense, model, number, step.dtype, expected)
    if artifact is not None and artifact.dtype != "fp32" and step.last:
        lost_now = lost(job, artifact_evaluation(job, artifact, held_out=True))
    else:
        lost_now = lost(job, after)
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
        "metric_reconstructed": solved.after if solved else None,
        "metric_after": after.metric,
        "lost": lost_now,
        "seconds": time.perf_counter() - start,
        "criterion": None if step.plan is not None else str(made(job.criterion, job.recipe.seed)),
        "verification": cut.verification.max_relative_error,
        "recovery": recovered.to_json() if recovered else None,
        "shares": dict(step.shares),
        "uses": _uses(job, dense, artifact, timing),
        "timings": [timing] if timing else [],
    }


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


def _measured(
    job: Job, dense: Dense, model: nn.Module, number: int, dtype: str, expected: Mapping[str, float | None]
) -> tuple[Artifact | None, dict[str, Any] | None]:
    """The round's artifact, and a short measurement of it beside the reference."""
    if not job.recipe.measure.rounds:
        return None, None
    (artifact,) = build(job, model, f"probes/round-{number}", f"round-{number}", (dtype,))
    reference = reference_of(dense)
    effort = Effort(width=0.05, seconds=job.recipe.measure.seconds / 4)
    timings = timed(job, [reference, artifact], f"round {number}", reference.name, effort, expected)
    return artifact, next(t for t in timings if t["artifact"] != reference.name)


def _uses(
    job: Job, dense: Dense, artifact: Artifact | None, timing: Mapping[str, Any] | None
) -> dict[str, float]:
    """How much of the budgets for latency and size the round's artifact uses."""
    if artifact is None or timing is None:
        return {}
    read = {"latency": timing["ratio"] * dense.latency_ms, "size": artifact.bytes}
    return {
        a.kind: read[a.kind] / a.limit(dense.value(a.kind)) for a in measured_kinds(job) if a.kind in read
    }


def _counts(job: Job, groups: Groups, plan: Plan) -> tuple[int, int]:
    costs = Costs.of(groups)
    alive = groups.coupling.alive(dead_atoms(groups, plan))
    return round(costs.params.of(alive)), round(costs.macs.of(alive))
