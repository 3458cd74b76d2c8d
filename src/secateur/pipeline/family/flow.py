"""The sweep on one screen: one analysis, a plan for every budget, a few of them measured, the front marked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from secateur.bench import Device
from secateur.coupling import find_groups
from secateur.data import Data, check_data, fingerprint, split_data
from secateur.deploy import Target
from secateur.errors import InputError, RecipeError
from secateur.graph import trace
from secateur.pipeline.criteria import made
from secateur.pipeline.degree import Dense
from secateur.pipeline.environment import model_hash
from secateur.pipeline.family.asked import BUDGETS, Asked, Request
from secateur.pipeline.family.front import dominators, spread
from secateur.pipeline.family.points import (
    asked_share,
    least_share,
    measured,
    middle_shares,
    plan_file,
    solved,
)
from secateur.pipeline.family.record import Measured, Point, Sweep, plain
from secateur.pipeline.flow import classes_of, dense_model, ties_of
from secateur.pipeline.folder import open_folder
from secateur.pipeline.job import Job
from secateur.pipeline.prediction import fit_of_run, prepare
from secateur.pipeline.ranking import settle_criterion
from secateur.pipeline.rivals import settled
from secateur.planning import Amount, Budget
from secateur.recipe import CriterionOptions, Recipe
from secateur.report import write_sweep
from secateur.task import Inputs, Task, classification


def sweep(
    model: nn.Module,
    data: Data | tuple[Any, Any] | None = None,
    *,
    kind: str = "latency",
    budgets: Sequence[str] | int = BUDGETS,
    measure: int | None = 3,
    recipe: Recipe | None = None,
    target: str = "onnxruntime:auto",
    criterion: str | None = None,
    out: str | os.PathLike[str] = "sweep",
    task: Task | None = None,
    seed: int = 0,
    example_inputs: Inputs | None = None,
    device: Device | None = None,
    quiet: bool = False,
) -> Sweep:
    """A family of plans over many budgets of one kind, from one analysis. The model is not changed, nothing is trained.

    Groups, scores, the dense model's measurement and the latency fit are made once; every budget after that is only
    solved. Run again on the same ``out``, it resumes; with other budgets, it solves these from the same analysis.

    Args:
        model: the trained model.
        data: ``(train_loader, eval_loader)``; plans are tried on a held-out part of the training data. Without data,
            quality is told by the saliency that stays.
        kind: ``latency``, ``size``, ``params`` or ``macs``.
        budgets: amounts of it, such as ``"0.5x"`` or ``"12ms"``; or how many are spread over what can be had.
        measure: how many of the plans are exported and measured, spread over the family; None measures all.
        recipe: all other options (its budget is not looked at); instead of it ``target``, ``criterion`` (``taylor``
            by default, ``magnitude`` without data) and ``seed``.
        out: a folder for ``sweep.json``, ``sweep.html``, ``plans`` and the artifacts.
        task: loss and metric; classification by default.
        example_inputs: needed without data.
        device: where latency is measured; this machine by default.
        quiet: no progress.

    Raises:
        RequestError: a wrong model, data, budget or folder; nothing new is written.
    """
    asked = Asked(kind, budgets if isinstance(budgets, int) else tuple(budgets), measure)
    if recipe is None:
        options = CriterionOptions(criterion or ("magnitude" if data is None else "taylor"))
        recipe = Recipe(budget=_some_budget(asked), target=target, criterion=options, seed=seed)
    elif data is None and recipe.criterion == CriterionOptions():
        recipe = replace(recipe, criterion=CriterionOptions("magnitude"))
    recipe = replace(recipe, budget=_some_budget(asked))
    if data is None and recipe.criterion.name not in ("magnitude", "random"):
        raise RecipeError(
            f"criterion={recipe.criterion.name} is computed on data, and there are none; give data, or "
            "criterion=magnitude"
        )
    wanted = Target.parse(recipe.target)
    labelled = data is not None
    if data is None:
        if example_inputs is None:
            raise InputError("a sweep without data needs example_inputs; give them, or data")
        data = Data((), ((example_inputs, None),), (), (example_inputs,), seed=recipe.seed)
    elif not isinstance(data, Data):
        data = split_data(data[0], data[1], seed=recipe.seed, held_out=recipe.held_out)
    task = task or classification(data.labels)
    example = data.example_inputs if example_inputs is None else example_inputs
    groups = find_groups(trace(model, example), free_outputs=recipe.free_outputs)
    if labelled:
        check_data(data, classes=classes_of(model, example, task))
    ties = ties_of(model, groups, recipe)
    hashes = {"model": model_hash(model), "data": fingerprint(data) if labelled else "none"}
    with open_folder(out, Request(recipe, asked), hashes, "sweep") as folder:
        job = Job(
            recipe, model, data, task, folder, wanted, example, groups, quiet, device, ties, labelled=labelled
        )
        job = settled(job)
        dense = dense_model(job)
        prepare(job, dense.dtype(job), always=True)
        amounts = _amounts(job, dense, asked)
        job = settle_criterion(job, dense, middle_shares(job, dense, amounts))
        points = _solved(job, dense, amounts)
        points = _with_measurements(job, dense, amounts, points, asked.measure)
        axes, points = _with_front(job, dense, points)
        record = _record(job, dense, asked, axes, points)
        folder.write_json("sweep.json", record)
        folder.write_lines("measurements.jsonl", [*dense.timings, *_timings(job)])
        write_sweep(record, folder.root / "sweep.html")
    return Sweep(Path(out), tuple(points), record)


def _some_budget(asked: Asked) -> Budget:
    """A recipe wants a budget; which one does not matter here."""
    return Budget(**{asked.kind: asked.named[0]})


def _amounts(job: Job, dense: Dense, asked: Asked) -> list[Amount]:
    """The budgets, the largest first."""
    budgets = asked.named
    if isinstance(asked.budgets, int):
        budgets = asked.spread(job.folder.journal.step("smallest", least_share, job, dense, asked.kind))
    return sorted(asked.amounts(budgets), key=lambda a: -asked_share(job, dense, a))


def _solved(job: Job, dense: Dense, amounts: Sequence[Amount]) -> list[Point]:
    points: list[Point] = []
    first: dict[str, str] = {}
    for amount in amounts:
        found = job.folder.journal.step(f"plan {amount.asked}", solved, job, dense, amount)
        if found["plan"] is not None and not (job.folder.root / plan_file(amount)).exists():
            solved(job, dense, amount)  # its file was removed
        told = {**found, "removed": tuple(found.get("removed", ()))}
        told.pop("digest", None)
        same = first.get(found.get("digest", ""))
        if found["plan"] is not None:
            first.setdefault(found["digest"], amount.asked)
        points.append(Point(amount.asked, same_as=same, **told))
        job.say(f"  {amount.kind}={amount.asked}: {_progress(job, points[-1])}")
    return points


def _progress(job: Job, point: Point) -> str:
    if point.params is None:
        return str(point.reason)
    latency = "" if point.predicted_ratio is None else f"{point.predicted_ratio:.2f}x predicted latency, "
    quality = (
        f"{point.kept:.0%} of the saliency"
        if point.metric is None
        else f"{job.task.name} {point.metric:.4f} before recovery"
    )
    return f"{latency}{point.params / job.dense_counts['params']:.2f}x parameters, {quality}"


def _with_measurements(
    job: Job, dense: Dense, amounts: Sequence[Amount], points: Sequence[Point], wanted: int | None
) -> list[Point]:
    """The points with the measurements of those chosen now, and of those measured before."""
    different = [i for i, p in enumerate(points) if p.feasible and p.same_as is None]
    chosen = {different[i] for i in spread(len(different), wanted)}
    out = []
    for i, (amount, point) in enumerate(zip(amounts, points, strict=True)):
        name = f"measured {amount.asked}"
        if i in chosen or (point.feasible and name in job.folder.journal):
            found = job.folder.journal.step(name, measured, job, dense, amount)
            told = {k: v for k, v in found.items() if k not in ("timings", "ratio_interval")}
            own = Measured(ratio_interval=tuple(found["ratio_interval"]), **told)
            point = replace(point, measured=own)
            job.say(f"  {amount.kind}={amount.asked}: measured at {own.ratio:.3f}x in {own.dtype}")
        out.append(point)
    return out


def _with_front(job: Job, dense: Dense, points: Sequence[Point]) -> tuple[dict[str, str], list[Point]]:
    """What is compared, and the points with those that beat them."""
    there = [p for p in points if p.feasible]
    axes = {"cost": "macs", "quality": "metric" if job.labelled else "kept"}
    if all(p.predicted_ratio is not None for p in there):
        axes["cost"] = "predicted_ratio"
    elif all(p.measured is not None for p in there):
        axes["cost"] = "measured_ratio"
    sign = 1.0 if not job.labelled or job.task.higher_is_better else -1.0
    costs = [1.0, *(cost_of(p, axes["cost"], job.dense_counts["macs"]) for p in there)]
    whole = dense.metric if job.labelled else 1.0
    qualities = [sign * whole, *(sign * getattr(p, axes["quality"]) for p in there)]
    names = ["dense", *(p.asked for p in there)]
    beaten = {
        p.asked: None if by is None else names[by]
        for p, by in zip(there, dominators(costs, qualities)[1:], strict=True)
    }
    return axes, [replace(p, dominated_by=beaten.get(p.asked)) for p in points]


def cost_of(point: Point, axis: str, dense_macs: float) -> float:
    """A point's cost as a share of the dense model's."""
    if axis == "measured_ratio":
        assert point.measured is not None
        return point.measured.ratio
    value = point.predicted_ratio if axis == "predicted_ratio" else (point.macs or 0) / dense_macs
    assert value is not None
    return value


def _record(
    job: Job, dense: Dense, asked: Asked, axes: dict[str, str], points: Sequence[Point]
) -> dict[str, Any]:
    fit = fit_of_run(job)
    return {
        "kind": asked.kind,
        "model": job.recipe.model or type(job.model).__name__,
        "target": str(job.target),
        "threads": job.threads,
        "criterion": str(made(job.criterion, job.recipe.seed)),
        "ranking": job.folder.journal.steps.get("criterion"),
        "seed": job.recipe.seed,
        "metric": {"name": job.task.name, "higher_is_better": job.task.higher_is_better}
        if job.labelled
        else None,
        "dense": {
            "artifact": dense.reference,
            "latency_ms": dense.latency_ms,
            "size_bytes": dense.size,
            "params": round(job.dense_counts["params"]),
            "macs": round(job.dense_counts["macs"]),
            "metric": dense.metric if job.labelled else None,
        },
        "prediction": None
        if fit is None
        else {"median_error": fit.median_error, "p90_error": fit.p90_error, "networks": fit.networks},
        "front": axes,
        "points": [plain(p) for p in points],
    }


def _timings(job: Job) -> list[dict[str, Any]]:
    steps = job.folder.journal.steps.items()
    return [t for name, step in steps if name.startswith("measured ") for t in step["timings"]]
