"""The main job on one screen: from a trained model and a budget to a proven smaller artifact."""

from __future__ import annotations

import datetime
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from secateur.bench import Device
from secateur.coupling import Groups, find_groups
from secateur.data import Data, check_data, evaluate, fingerprint, split_data
from secateur.deploy import Artifact, Target
from secateur.errors import FormError, Infeasible
from secateur.graph import trace
from secateur.pipeline.artifacts import build, dense_dtypes, timed
from secateur.pipeline.backoff import keep_quality, run_until_quality
from secateur.pipeline.degree import Dense, check_counts, find_degree, first_shares, measured_kinds, memory_of
from secateur.pipeline.depth import with_depth
from secateur.pipeline.environment import model_hash
from secateur.pipeline.finish import conclude, conclude_infeasible, finish
from secateur.pipeline.folder import open_folder
from secateur.pipeline.forecast import forecast, smallest_in_words
from secateur.pipeline.job import Job
from secateur.pipeline.ranking import settle_criterion
from secateur.pipeline.rivals import settled
from secateur.pipeline.rounds import run_plan, run_rounds
from secateur.planning import Budget, Plan, Ties, dead_atoms, without_removed
from secateur.recipe import CriterionOptions, Recipe
from secateur.surgery import lasting_ties
from secateur.task import Inputs, Task, call, classification, logits


@dataclass(frozen=True)
class Run:
    """A finished run.

    Args:
        folder: with every record; ``secateur.load(folder)`` gives the pruned model.
        verdict: ``met`` or ``missed``.
        headline: the verdict in words.
        record: the content of ``verdict.json``.
    """

    folder: Path
    verdict: str
    headline: str
    record: dict[str, Any]

    @property
    def exit_status(self) -> int:
        """What the command line returns: 0 met, 3 missed."""
        return 0 if self.verdict == "met" else 3


def compress(
    model: nn.Module,
    data: Data | tuple[Any, Any],
    *,
    recipe: Recipe | None = None,
    budget: Budget | None = None,
    target: str = "onnxruntime:auto",
    out: str | os.PathLike[str] = "run",
    task: Task | None = None,
    minimise: str | None = None,
    plan: str | os.PathLike[str] | None = None,
    criterion: str = "taylor",
    seed: int = 0,
    example_inputs: Inputs | None = None,
    device: Device | None = None,
    quiet: bool = False,
) -> Run:
    """Compresses a trained model until it keeps a budget, and proves it. The model is not changed.

    Run again on the same ``out``, it resumes: recorded decisions and measurements are replayed.

    Args:
        model: the trained model.
        data: ``(train_loader, eval_loader)``; everything chosen is chosen on a part of the training data.
        recipe: all options; instead of it ``budget``, ``target``, ``minimise``, ``seed``, ``criterion``, and ``plan``,
            the file of a plan that is carried out instead of looking for one.
        out: the run folder.
        task: loss and metric; classification by default.
        example_inputs: by default a batch of the data.
        device: where latency is measured; this machine by default.
        quiet: no progress.

    Raises:
        RequestError: a wrong model, data, budget or folder; nothing new is written.
        Infeasible: no cut meets the budget; said before any training, and recorded.
    """
    picked = None if plan is None else os.fspath(plan)
    recipe = recipe or Recipe(
        budget=budget or Budget(), target=target, minimise=minimise, plan=picked,
        criterion=CriterionOptions(criterion), seed=seed,
    )  # fmt: skip
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    wanted = Target.parse(recipe.target)
    if not isinstance(data, Data):
        data = split_data(data[0], data[1], seed=recipe.seed, held_out=recipe.held_out)
    task = task or classification(data.labels)
    example = data.example_inputs if example_inputs is None else example_inputs
    groups = find_groups(trace(model, example), free_outputs=recipe.free_outputs)
    check_data(data, classes=classes_of(model, example, task))
    ties = ties_of(model, groups, recipe)
    hashes = {"model": model_hash(model), "data": fingerprint(data)}
    given = None if recipe.plan is None else _given(recipe.plan, groups)
    if given is not None:
        hashes["plan"] = given.to_json()["digest"]
    with open_folder(out, recipe, hashes) as folder:
        job = Job(recipe, model, data, task, folder, wanted, example, groups, quiet, device, ties)
        try:
            if given is None:
                check_counts(job)
            job = settled(job)
            dense = dense_model(job)
            job = settle_criterion(job, dense)
            if given is not None:
                job = replace(job, removed=given.removed)
                states, degree = run_plan(job, dense, given)
                state, degree = keep_quality(job, dense, degree, states)
            elif recipe.minimise is not None:
                state, degree = run_until_quality(job, dense)
            else:
                shares = first_shares(job, dense)
                job = with_depth(job, shares)
                degree = find_degree(job, dense, shares)
                forecast(job, degree)
                state, degree = keep_quality(job, dense, degree, run_rounds(job, dense, degree))
        except Infeasible as error:
            reason = f"{error}; {smallest_in_words(job)}"
            conclude_infeasible(job, reason, error.nearest, started, hashes)
            raise Infeasible(reason, error.nearest) from error
        outcome = finish(job, dense, degree, state)
        verdict = conclude(job, dense, outcome, started, hashes)
    return Run(Path(out), verdict["verdict"], verdict["headline"], verdict)


def _given(path: str, groups: Groups) -> Plan:
    """The plan in a file, if it is for this model."""
    plan = Plan.load(path)
    left = without_removed(groups, plan)
    dead_atoms(left, plan)
    return replace(plan, removed=left.removal.names)


def ties_of(model: nn.Module, groups: Groups, recipe: Recipe) -> Ties | None:
    """Ties between widths where the user's own class is to hold the result, and can."""
    if recipe.form == "graph":
        return None
    ties, obstacle = lasting_ties(model, groups, recipe.free_outputs)
    if ties is None and recipe.form == "module":
        raise FormError(
            f"{type(model).__name__} cannot hold the result in its own class: {obstacle}; use form='graph', or "
            "form='auto' to take what can be had"
        )
    return ties


def dense_model(job: Job) -> Dense:
    """Exports and measures the dense model: what every relative budget refers to."""
    job.say(
        f"dense model: {len(job.groups)} groups, {job.groups.prunable_share:.0%} of the parameters prunable"
    )
    record = job.folder.journal.step("dense", _measure_dense, job)
    artifacts = tuple(Artifact.from_json(a) for a in record["artifacts"])
    if any(not (job.folder.root / a.path).exists() for a in artifacts):
        build(job, job.groups.graph.module, "artifacts/dense", "dense", dense_dtypes(job))
    dense = Dense(
        artifacts,
        tuple(record["timings"]),
        record["reference"],
        min(a.bytes for a in artifacts),
        record["memory"],
        record["metric"] if job.labelled else math.nan,
    )
    quality = f"{job.task.name} {dense.metric:.4f} on held-out data; " if job.labelled else ""
    job.say(
        f"  {quality}the reference is {dense.reference}, {dense.latency_ms:.3f} ms with {job.threads} threads"
    )
    return dense


def _measure_dense(job: Job) -> dict[str, Any]:
    artifacts = build(job, job.groups.graph.module, "artifacts/dense", "dense", dense_dtypes(job))
    timings = timed(job, artifacts, "dense", artifacts[0].name)
    fastest = min(timings, key=lambda t: 1.0 if t["ratio"] is None else t["ratio"])["artifact"]
    chosen = next(a for a in artifacts if a.name == fastest)
    return {
        "artifacts": [a.to_json() for a in artifacts],
        "timings": _rebased(timings, fastest),
        "reference": fastest,
        "memory": memory_of(job, chosen) if any(a.kind == "memory" for a in measured_kinds(job)) else 0,
        "metric": evaluate(job.model, job.data.select, job.task).metric if job.labelled else None,
    }


def _rebased(timings: list[dict[str, Any]], reference: str) -> list[dict[str, Any]]:
    """Two timings paired with the first, as paired with the faster one: ratios turned over."""
    if timings[0]["artifact"] == reference:
        return timings
    (slow, fast) = timings
    low, high = fast["ratio_interval"]
    turned = {"reference": reference, "ratio": 1 / fast["ratio"], "ratio_interval": [1 / high, 1 / low]}
    return [{**slow, **turned}, {**fast, "reference": None, "ratio": None, "ratio_interval": None}]


def classes_of(model: nn.Module, example: Inputs, task: Task) -> int | None:
    """How many classes the model tells apart, where the task is to tell classes apart."""
    import torch

    if task.name != "accuracy":
        return None
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            found = logits(call(model, example))
    finally:
        model.train(training)
    return int(found.shape[-1])
