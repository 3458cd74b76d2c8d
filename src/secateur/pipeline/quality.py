"""Quality as a constraint: what a round has lost on held-out data, overall and in the worst class.

Evaluation data only record; whether a schedule goes on is decided on held-out training data.
"""

from __future__ import annotations

from typing import Any

from secateur.data import Evaluation
from secateur.errors import DataError
from secateur.pipeline.job import Job, points_lost
from secateur.pipeline.judge import compare_classes

KINDS = ("drop", "class_drop")


def lost(job: Job, found: Evaluation) -> dict[str, Any]:
    """Points lost on held-out data, and which class lost most; of classes nothing unless a budget asks for them.

    Raises:
        DataError: ``class_drop=`` was asked, and targets are no classes.
    """
    record: dict[str, Any] = {"drop": points_lost(job.task, job.held_out.metric, found.metric)}
    if job.recipe.budget.get("class_drop") is not None:
        classes = compare_classes(job, job.held_out, found)
        if not classes:
            raise DataError("class_drop= needs a task whose targets are classes; use drop= instead")
        worst = min(classes, key=lambda c: c.delta)
        record |= {"class_drop": -100.0 * worst.delta, "class": worst.name}
    return record


def broken(job: Job, record: dict[str, Any]) -> str:
    """Which promise about quality a round breaks, in words; empty where it keeps all."""
    for kind in KINDS:
        amount = job.recipe.budget.get(kind)
        if amount is not None and record[kind] > amount.value + 1e-9:
            where = f" in class {record['class']}" if kind == "class_drop" else ""
            return f"{record[kind]:.2f} points are lost{where} on held-out data, {kind}={amount.asked} allows fewer"
    return ""
