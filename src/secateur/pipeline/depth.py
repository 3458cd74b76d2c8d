"""Depth against width: whether some blocks should go whole before any width is cut.

A narrower block still costs what no width changes: a kernel's start, a pass over the stream. So with the same latency
to spend, plans that first remove none, one, two and more of the least important blocks are set side by side: each is
cut and recovered without training, and the loss on held-out data decides. Blocks go in the
order of how little they turn the stream (scoring.score_blocks); what is left of a stage is never nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from secateur.data import evaluate
from secateur.errors import Infeasible
from secateur.pipeline.degree import plan_for
from secateur.pipeline.job import Job
from secateur.pipeline.untrained import untrained
from secateur.planning import compare_depths, depth_units
from secateur.scoring import score_blocks

SAMPLES = 16  # batches of training data that blocks are scored on


def with_depth(job: Job, shares: Mapping[str, float], step: str = "depth") -> Job:
    """The job without the blocks whose removal, at these shares of the dense costs, loses least; it may be none.

    With ``depth: auto`` only where latency is predicted: a count says nothing of what a block costs by being there. The
    comparison is recorded as ``step``.
    """
    units = depth_units(job.groups.blocks)
    wanted = job.recipe.depth == "on" or (job.recipe.depth == "auto" and "latency" in shares)
    if not wanted or len(units) < 2:
        return job
    table = job.folder.journal.step(step, _compared, job, shares)["tried"]
    feasible = [row for row in table if row["loss"] is not None]
    if not feasible:
        return job
    best = min(feasible, key=lambda row: row["loss"])
    words = ", ".join(f"{row['loss']:.3f} without {len(row['removed'])}" for row in feasible)
    job.say(f"  depth: loss before recovery {words}: {len(best['removed'])} of {len(units)} blocks go whole")
    return replace(job, removed=tuple(best["removed"]))


def _compared(job: Job, shares: Mapping[str, float]) -> dict[str, Any]:
    """Candidates by how many blocks they lose, with the loss on held-out data; None where widths cannot make it."""
    saliency = score_blocks(job.groups, itertools.islice(iter(job.data.train), SAMPLES))
    tried = compare_depths(job.groups, saliency, partial(_loss, job, shares))
    rows = [{"removed": list(removed), "loss": loss} for removed, loss in tried]
    return {"saliency": saliency, "shares": dict(shares), "tried": rows}


def _loss(job: Job, shares: Mapping[str, float], removed: tuple[str, ...]) -> float | None:
    """Loss on held-out data of an untrained cut; None where widths cannot make these shares."""
    without = replace(job, removed=removed)
    try:
        plan = plan_for(without, without.scores, shares)
    except Infeasible:
        return None
    return evaluate(untrained(job, plan), job.data.select, job.task).loss
