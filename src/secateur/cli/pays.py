"""Whether pruning pays, as ``secateur analyze`` measures and shows it: suitability, sensitivity, a lighter model."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from secateur.cli.datasets import Loaders
from secateur.cli.screen import line, share, table
from secateur.coupling import Groups
from secateur.errors import RecipeError

if TYPE_CHECKING:
    from secateur.deploy import Exporter, Target

BATCHES = 4  # of the training data, for curves of sensitivity
SHOWN = 12
HALF = 0.5  # the share of the dense cost that a run is forecast for


def measured(
    groups: Groups, target: str, other: Groups | None, name: str | None, seconds: float
) -> dict[str, Any]:
    """``suitability``, ``runtimes`` where the target leaves them open, and ``against`` beside a second model.

    Raises:
        RecipeError: the runtime does not tell where the time goes.
    """
    from secateur.deploy import Target
    from secateur.latency import Pace, Survey, Where, one_sample, suitability

    wanted = Target.parse(target)
    rivals: list[dict[str, Any]] = []
    if wanted.open:
        wanted, rivals = _settled(groups, wanted)
    places = {dtype: Where(wanted.runtime, dtype) for dtype in dict.fromkeys(("fp32", *wanted.dtypes))}
    if not all(where.tells_operators for where in places.values()):
        raise RecipeError(
            f"{wanted.runtime} does not tell the times of its operators, so suitability cannot be measured there; "
            "use --target onnxruntime:auto"
        )
    with tempfile.TemporaryDirectory(prefix="secateur-") as scratch:
        found = suitability(
            groups,
            one_sample(groups.graph),
            places,
            Path(scratch),
            Survey(pace=Pace.within(seconds), say=_say),
        )
        record: dict[str, Any] = {"suitability": found.to_json(), "runtimes": rivals}
        if other is not None:
            record["against"] = _against(
                groups, other, str(name), wanted.runtime, tuple(places), Path(scratch)
            )
    return record


def _settled(groups: Groups, target: Target) -> tuple[Target, list[dict[str, Any]]]:
    """The target in the runtime in which the model measures fastest, and what was compared."""
    from secateur.latency import choose_runtime, one_sample

    inputs = one_sample(groups.graph)
    with tempfile.TemporaryDirectory(prefix="secateur-") as scratch:

        def export(exporter: Exporter) -> Path:
            _say(f"exporting to {exporter.runtime} {exporter.dtype}")
            return exporter.write(groups.graph.module, inputs, Path(scratch) / exporter.filename, [inputs])

        found = choose_runtime(target, export, inputs)
    return found.target, found.to_json()


def _against(
    groups: Groups, other: Groups, name: str, runtime: str, dtypes: tuple[str, ...], scratch: Path
) -> dict[str, Any]:
    """A second model's parameters, and its dense latency over this one's in each dtype, measured in turn."""
    from secateur.bench import Entry, measure
    from secateur.deploy import format_for
    from secateur.latency import one_sample

    ratios = {}
    inputs = one_sample(groups.graph)
    for dtype in dtypes:
        _say(f"timing {name} in {runtime} {dtype}")
        exporter = format_for(runtime, dtype)
        entries = []
        for which, one in (("model", groups), ("against", other)):
            path = exporter.write(
                one.graph.module, inputs, scratch / f"{which}-{exporter.filename}", [inputs]
            )
            entries.append(Entry(which, path, runtime, dtype))
        ratios[dtype] = measure(entries, inputs, phase="analysis")[1].ratio
    return {"model": name, "params": other.graph.parameters, "latency_ratio": ratios}


def curves(groups: Groups, loaders: Loaders, task: str) -> dict[str, Any]:
    """``sensitivity`` as ``analysis.json`` has it, on the first batches of the training data."""
    from secateur.cli.tasks import resolve_task
    from secateur.latency import cache_folder
    from secateur.scoring import Taylor, score
    from secateur.sensitivity import sensitivity

    some = list(itertools.islice(iter(loaders.train), BATCHES))
    wanted = resolve_task(task, loaders.labels)
    scores = score(groups.graph.module, groups, Taylor(batches=BATCHES), some, wanted)
    folder = cache_folder().parent / "sensitivity"
    return sensitivity(scores, some, wanted, cache=folder, say=_say).to_json()


def effort(groups: Groups, loaders: Loaders, task: str) -> dict[str, Any]:
    """``forecast`` as ``analysis.json`` has it: what a run to half of the cost takes here, by the recipe's defaults."""
    from secateur.cli.tasks import resolve_task
    from secateur.pipeline import training_hours
    from secateur.recipe import RecoveryOptions, ScheduleOptions

    rounds, options = ScheduleOptions().count(HALF), RecoveryOptions()
    wanted = resolve_task(task, loaders.labels)
    hours = training_hours(groups.graph.module, loaders.train, wanted, options, rounds, HALF)
    return {"share": HALF, "rounds": rounds, "epochs": options.epochs_over(rounds), "hours": hours}


def show_worth(record: dict[str, Any]) -> None:
    """Prints what was measured."""
    if record.get("runtimes"):
        show_rivals(record["runtimes"])
    found = record["suitability"]
    if found is not None:
        line(
            f"\nSuitability in {found['runtime']}, {found['threads']} thread(s): {found['verdict']}",
            style="bold",
        )
        line(found["words"])
        rows = [
            (
                d["dtype"], f"{d['dense_ms']:.3g}", f"{d['ratio']:.2f}x", share(d["fixed"]), share(d["linear"]),
                share(d["products"]), f"{d['half']:.2f}x", f"{d['least']:.2f}x", share(d["error"]),
            )
            for d in found["dtypes"]
        ]  # fmt: skip
        columns = (
            "dtype", "dense ms", "of fp32", "not of widths", "of one width", "of two", "half the units", "narrowest",
            "median error",
        )  # fmt: skip
        table("Where the time goes (latency shares), and what is left at smaller widths, predicted", columns, rows,
              right=columns[1:])  # fmt: skip
        best = min(found["dtypes"], key=lambda d: d["ratio"])
        table(
            f"Operators that take most in {best['dtype']}, by the widths they depend on",
            ("widths of", "share"),
            [(name, share(part)) for name, part in best["slowest"][:SHOWN]],
            right=("share",),
        )
    if record.get("against"):
        other = record["against"]
        ratios = ", ".join(f"{ratio:.2f}x in {dtype}" for dtype, ratio in other["latency_ratio"].items())
        size = other["params"] / record["params"]
        line(f"{other['model']} has {size:.2f}x the parameters and takes {ratios} of the time", style="bold")
    if record["sensitivity"] is not None:
        _show_curves(record["sensitivity"])
    if record["forecast"] is not None:
        took = record["forecast"]
        hours = "" if took["hours"] is None else f", about {60 * took['hours']:.0f} minutes here"
        line(
            f"a run to half of the cost, by the defaults: {took['rounds']} rounds, {took['epochs']} epochs{hours}"
        )


def show_rivals(rivals: list[dict[str, Any]]) -> None:
    """The same model in every runtime that is installed, measured in turn."""
    rows = [
        (
            r["runtime"],
            r["dtype"],
            "" if r["latency_ms"] is None else f"{r['latency_ms']:.3g}",
            "" if r["ratio"] is None else f"{r['ratio']:.2f}x",
            "fastest" if r["chosen"] else r["obstacle"],
        )
        for r in rivals
    ]
    table("The model in every runtime here, measured in turn", ("runtime", "dtype", "ms", "ratio", ""), rows,
          right=("ms", "ratio"))  # fmt: skip


def _show_curves(found: dict[str, Any]) -> None:
    rows = []
    for curve in found["curves"]:
        drops = [
            f"{(found['metric'] - metric) * 100:+.1f} at {removed / curve['units']:.0%}"
            for removed, metric in zip(curve["removed"][1:], curve["metric"][1:], strict=True)
        ]
        rise = max(curve["loss"]) - found["loss"]
        rows.append((rise, (curve["group"], f"{curve['units']:,}", ", ".join(drops), f"{rise:+.3f}")))
    rows.sort(key=lambda row: -row[0])
    table(
        f"Sensitivity, no training, {found['samples']:,} samples: points of the metric lost at shares removed",
        ("group", "units", "points lost", "loss, at most"),
        [row for _, row in rows[:SHOWN]],
        right=("units", "loss, at most"),
    )
    if len(rows) > SHOWN:
        line(f"and {len(rows) - SHOWN} groups that cost less; --json FILE has all of them")
    for block in sorted(found["blocks"], key=lambda b: -b["loss"])[:SHOWN]:
        line(f"without {block['name']}: {(found['metric'] - block['metric']) * 100:+.1f} points")


def _say(text: str) -> None:
    Console(stderr=True, highlight=False).print(text, markup=False, soft_wrap=True)
