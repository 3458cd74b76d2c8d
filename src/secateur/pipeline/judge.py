"""The verdict: what was asked, what was achieved, measured on evaluation data that decided nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from secateur.data import ClassDelta, Evaluation, class_deltas, evaluate
from secateur.deploy import Artifact, runtime_named
from secateur.errors import DataError
from secateur.pipeline.degree import Dense
from secateur.pipeline.job import Job, counts, points_lost
from secateur.planning import Amount, Plan


@dataclass(frozen=True)
class Candidate:
    """A finished artifact and everything it is judged by.

    Args:
        artifact: the file.
        timing: its record, paired with the reference.
        evaluation: of the artifact on evaluation data.
        classes: class by class against dense fp32, empty where targets are no classes.
        memory: peak memory in bytes; zero unless a budget asks for it.
        reference_p95_ms: of the reference, measured in the same turns.
    """

    artifact: Artifact
    timing: Mapping[str, Any]
    evaluation: Evaluation
    classes: tuple[ClassDelta, ...]
    memory: int
    reference_p95_ms: float


def artifact_evaluation(job: Job, artifact: Artifact, *, held_out: bool = False) -> Evaluation:
    """The artifact's outputs and metric on evaluation data, or on held-out training data."""
    session = runtime_named(artifact.runtime).load(job.folder.root / artifact.path, job.threads)
    return evaluate(session, job.data.select if held_out else job.data.evaluate, job.task)


def compare_classes(job: Job, dense: Evaluation, pruned: Evaluation) -> tuple[ClassDelta, ...]:
    """Class by class, worst first; nothing where the task has no classes."""
    labels = job.task.labels or job.data.labels
    if job.task.name != "accuracy" and labels is None:
        return ()
    try:
        return class_deltas(dense, pruned, labels, seed=job.recipe.seed)
    except DataError:
        return ()


def worst_class(classes: Sequence[ClassDelta]) -> ClassDelta:
    """The class that lost most.

    Raises:
        DataError: there are none: targets are no classes.
    """
    if not classes:
        raise DataError("class_drop= needs a task whose targets are classes; use drop= instead")
    return min(classes, key=lambda c: c.delta)


def judge(
    job: Job, dense: Dense, reference: Evaluation, candidate: Candidate, plan: Plan | None
) -> list[dict[str, Any]]:
    """The rows of ``budgets`` in ``verdict.json``: one for each amount that was asked."""
    return [_row(job, dense, reference, candidate, plan, amount) for amount in job.recipe.budget.amounts()]


def _row(
    job: Job, dense: Dense, reference: Evaluation, candidate: Candidate, plan: Plan | None, amount: Amount
) -> dict[str, Any]:
    timing = candidate.timing
    ratio = 1.0 if timing["ratio"] is None else timing["ratio"]
    spread = timing["ratio_interval"] or [1.0, 1.0]
    base = dense.latency_ms
    row: dict[str, Any] = {"kind": amount.kind, "asked": amount.asked, "interval": None}
    if amount.kind == "latency":
        if amount.relative:
            row |= {
                "unit": "ms",
                "dense": base,
                "achieved": ratio * base,
                "interval": [s * base for s in spread],
            }
            return row | {"ratio": ratio, "ratio_interval": spread, "met": spread[1] <= amount.value}
        row |= {
            "unit": "ms",
            "dense": base,
            "achieved": timing["median_ms"],
            "interval": timing["interval_ms"],
        }
        return row | {"met": timing["interval_ms"][1] <= amount.value}
    if amount.kind == "p95":
        before, after = dense.timing["p95_ms"], timing["p95_ms"]
        if amount.relative:  # paired through the reference measured in the same turns
            after = timing["p95_ms"] / candidate.reference_p95_ms * before
        row |= {"unit": "ms", "dense": before, "achieved": after}
    elif amount.kind == "size":
        row |= {"unit": "bytes", "dense": dense.size, "achieved": candidate.artifact.bytes}
    elif amount.kind == "memory":
        row |= {"unit": "bytes", "dense": dense.memory, "achieved": candidate.memory}
    elif amount.kind in ("params", "macs"):
        before, after = counts(job, None)[amount.kind], counts(job, plan)[amount.kind]
        row |= {"unit": amount.kind, "dense": before, "achieved": after}
    elif amount.kind == "drop":
        lost = points_lost(job.task, reference.metric, candidate.evaluation.metric)
        return row | {"unit": "points", "dense": 0.0, "achieved": lost, "met": lost <= amount.value + 1e-9}
    else:
        worst = worst_class(candidate.classes)
        row["interval"] = sorted(-100.0 * x for x in worst.interval)
        row |= {"unit": "points", "dense": 0.0, "achieved": -100.0 * worst.delta, "class": worst.name}
        return row | {"met": -100.0 * worst.delta <= amount.value + 1e-9}
    return row | {"met": row["achieved"] <= amount.limit(row["dense"]) * (1 + 1e-9)}


def class_rows(classes: Sequence[ClassDelta]) -> list[dict[str, Any]]:
    """``classes`` of ``verdict.json``."""
    return [{**asdict(c), "interval": list(c.interval)} for c in classes]
