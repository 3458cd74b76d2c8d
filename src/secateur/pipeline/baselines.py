"""What the result has to beat, given the same chance.

Without training: INT8 of the dense model, random pruning to the same cost, and our own plan, the last two with
the same training-free recovery (weights solved again, batch-norm statistics recomputed). With training, on request: the
dense model and a randomly pruned one, recovered in the same way and trained as long as the result was.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from secateur.bench import Effort
from secateur.deploy import Artifact
from secateur.pipeline.artifacts import build, timed
from secateur.pipeline.degree import Dense, plan_for, reference_of
from secateur.pipeline.job import Job
from secateur.pipeline.judge import artifact_evaluation
from secateur.pipeline.untrained import untrained
from secateur.planning import Plan, Uniform
from secateur.recovery import FineTune, Setting, recover
from secateur.scoring import Random, score

RANDOM = (
    "random pruning, no training",
    "units removed at random to the same cost, recovered without training",
)
UNTRAINED = (
    "this plan, no training",
    "the plan of the result cut at once, recovered without training",
)


def baselines(
    job: Job, dense: Dense, plan: Plan, shares: dict[str, float], dtype: str, epochs: int
) -> list[dict[str, Any]]:
    """The rows of the report's table of baselines; see the module.

    Args:
        plan: from the dense model to the result.
        shares: of the dense counts, that the result has.
        dtype: of the result.
        epochs: that the result was trained for.
    """
    rows = []
    step = job.folder.journal.step
    for artifact in dense.artifacts:
        if artifact.dtype == "int8":
            rows.append(step("baseline int8", _int8, job, dense, artifact))
    random = _random_plan(job, shares)
    rows.append(step("baseline random", _pruned, job, dense, random, dtype, RANDOM))
    rows.append(step("baseline untrained", _pruned, job, dense, plan, dtype, UNTRAINED))
    if job.recipe.trained_baselines and epochs:
        job.say(f"  two baselines are trained for {epochs} epochs each, as the result was")
        rows.append(step("baseline dense trained", _trained, job, dense, None, dtype, epochs))
        rows.append(step("baseline random trained", _trained, job, dense, random, dtype, epochs))
    return rows


def _int8(job: Job, dense: Dense, artifact: Artifact) -> dict[str, Any]:
    timing = next(t for t in dense.timings if t["artifact"] == artifact.name)
    return _row(
        job, "INT8 without pruning", "the dense model quantised", artifact, timing,
        artifact_evaluation(job, artifact).metric, training=False,
    )  # fmt: skip


def _random_plan(job: Job, shares: dict[str, float]) -> Plan:
    scores = score(job.model, job.groups, Random(seed=job.recipe.seed))
    return plan_for(job, scores, shares, allocator=Uniform())


def _pruned(job: Job, dense: Dense, plan: Plan, dtype: str, named: tuple[str, str]) -> dict[str, Any]:
    return _measured(job, dense, untrained(job, plan, few=False), dtype, *named, training=False)


def _trained(job: Job, dense: Dense, plan: Plan | None, dtype: str, epochs: int) -> dict[str, Any]:
    options = job.recipe.recovery
    module: nn.Module = (
        copy.deepcopy(job.groups.graph.module) if plan is None else untrained(job, plan, few=False)
    )
    train = FineTune(
        epochs=epochs, optimizer=options.optimizer, lr=options.lr, weight_decay=options.weight_decay
    )
    kind = "dense" if plan is None else "random"
    home = job.folder.root / "rounds" / f"baseline-{kind}"
    name = "the dense model, trained as long" if plan is None else "random pruning, trained as long"
    setting = Setting(seed=job.recipe.seed, checkpoint=home, quiet=job.quiet, what=f"baseline: {kind}")
    module, _ = recover(module, job.data, job.task, train, setting)
    return _measured(
        job, dense, module, dtype, name, f"{epochs} epochs with the same optimiser", training=True
    )


def _measured(
    job: Job, dense: Dense, module: nn.Module, dtype: str, name: str, what: str, *, training: bool
) -> dict[str, Any]:
    where = "probes/" + name.replace(",", "").replace(" ", "-")
    (artifact,) = build(job, module, where, where.rpartition("/")[2], (dtype,))
    reference = reference_of(dense)
    effort = Effort(width=0.05, seconds=job.recipe.measure.seconds / 4)
    timings = timed(job, [reference, artifact], "baseline", reference.name, effort)
    metric = artifact_evaluation(job, artifact).metric
    return _row(job, name, what, artifact, timings[1], metric, training=training)


def _row(
    job: Job,
    name: str,
    what: str,
    artifact: Artifact,
    timing: dict[str, Any],
    metric: float,
    *,
    training: bool,
) -> dict[str, Any]:
    return {
        "name": name,
        "what": what,
        "latency_ms": timing["median_ms"],
        "latency_ratio": 1.0 if timing["ratio"] is None else timing["ratio"],
        "ratio_interval": timing["ratio_interval"],
        "size_bytes": artifact.bytes,
        "metric": metric,
        "training": training,
        "timings": [] if timing["phase"] != "baseline" else [timing],
    }
