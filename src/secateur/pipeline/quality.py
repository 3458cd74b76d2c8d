"""Quality as a constraint: what a round has lost on held-out data, overall and in the worst class.

Evaluation data only record; whether a schedule goes on is decided on held-out training data.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from secateur.data import Evaluation
from secateur.pipeline.job import Job, points_lost
from secateur.pipeline.judge import compare_classes, worst_class
from secateur.task import Task, split_batch

KINDS = ("drop", "class_drop")
LOOKED_AT = 256  # batches of training data that frequencies of classes are counted in
HEAVIEST = 10.0  # times as much as an average class that a rare one counts, at most


def lost(job: Job, found: Evaluation) -> dict[str, Any]:
    """Points lost on held-out data, and which class lost most; of classes nothing unless a budget asks for them.

    Raises:
        DataError: ``class_drop=`` was asked, and targets are no classes.
    """
    record: dict[str, Any] = {"drop": points_lost(job.task, job.held_out.metric, found.metric)}
    if job.recipe.budget.get("class_drop") is not None:
        worst = worst_class(compare_classes(job, job.held_out, found))
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


def recovery_task(job: Job) -> Task:
    """What a recovery trains by: with ``class_drop=`` and the default loss, classes count alike however rare.

    A rare class is what fine-tuning forgets first; weighing by the inverse of the frequency is the classic remedy (King
    and Zeng, "Logistic Regression in Rare Events Data", 2001). A loss of the user's own is left as it is.
    """
    if job.recipe.budget.get("class_drop") is None or job.task.loss is not F.cross_entropy:
        return job.task
    counts = job.folder.journal.step("class frequencies", _frequencies, job)
    share = sum(counts.values()) / len(counts)
    classes = max(int(c) for c in counts) + 1
    weights = [min(share / counts[str(c)], HEAVIEST) if str(c) in counts else 1.0 for c in range(classes)]
    return replace(job.task, loss=partial(_weighted, weights))


def _weighted(weights: list[float], outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy with a weight for each class; classes beyond the list count one."""
    whole = torch.ones(outputs.shape[1], dtype=outputs.dtype, device=outputs.device)
    known = min(len(weights), len(whole))
    whole[:known] = torch.tensor(weights[:known], dtype=outputs.dtype)
    return F.cross_entropy(outputs, targets, weight=whole)


def _frequencies(job: Job) -> dict[str, int]:
    found: Counter[int] = Counter()
    for batch in itertools.islice(iter(job.data.train), LOOKED_AT):
        found.update(split_batch(batch)[1].reshape(-1).tolist())
    return {str(c): n for c, n in sorted(found.items())}
