"""``secateur sweep``: a family of plans over many budgets, from one analysis."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secateur.cli.options import (
    DataName,
    DataOption,
    FreeOutputs,
    InputShape,
    JsonFile,
    ModelArgs,
    ModelName,
    Pretrained,
    Weights,
    assignments,
    free_outputs_from,
    json_arguments,
    shape_from,
    with_criterion,
)
from secateur.cli.screen import check_file, count, line, share, table, write_json
from secateur.errors import RecipeError

if TYPE_CHECKING:
    from secateur.pipeline import Sweep


def sweep(
    model: ModelName,
    model_args: ModelArgs = None,
    weights: Weights = None,
    pretrained: Pretrained = False,
    input: InputShape = None,
    data: DataName = None,
    data_option: DataOption = None,
    free_outputs: FreeOutputs = None,
    task: Annotated[str, typer.Option(help="classification, or package.module:callable.")] = "classification",
    kind: Annotated[str, typer.Option(help="Of the budgets: latency, size, params or macs.")] = "latency",
    budgets: Annotated[
        str | None,
        typer.Option(
            metavar="AMOUNT,...", help="Such as 0.9x,0.5x or 12ms,8ms; 0.9x,0.7x,0.5x,0.35x by default."
        ),
    ] = None,
    points: Annotated[
        int | None, typer.Option(metavar="N", help="Instead: so many budgets, spread over what can be had.")
    ] = None,
    target: Annotated[str, typer.Option(help="Runtime and dtype.")] = "onnxruntime:auto",
    measure: Annotated[
        str, typer.Option(metavar="N", help="How many plans are exported and measured, or all.")
    ] = "3",
    criterion: Annotated[
        str | None, typer.Option(help="taylor, magnitude, random, or auto; magnitude without data.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="For the records, the page and the plans.")
    ] = Path("sweep"),
    json: JsonFile = None,
    set: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any option of a recipe: multiple=4; repeatable."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only the table.")] = False,
) -> None:
    """Plans for many budgets from one analysis, predicted, and measured for a few; run again on FOLDER, it resumes."""
    from secateur.cli.request import build_recipe
    from secateur.cli.running import sweep_recipe
    from secateur.pipeline import Asked

    check_file(json, "--json")
    if data is None and criterion in ("taylor", "auto"):
        raise RecipeError(
            f"--criterion {criterion} is computed on data; give --data, or --criterion magnitude"
        )
    asked = Asked(kind, _budgets(budgets, points), _measure(measure))
    options = {
        "model": model,
        "model_args": json_arguments(model_args) or None,
        "weights": str(weights) if weights is not None else None,
        "pretrained": pretrained or None,
        "input": shape_from(input) if input is not None else None,
        "data": data,
        "free_outputs": free_outputs_from(free_outputs) or None,
        "task": task,
        "target": target,
        "seed": seed,
    }
    recipe = build_recipe(
        None,
        options,
        {kind: asked.named[0]},
        assignments(data_option, "--data-option"),
        with_criterion(set, criterion),
        needs_data=False,
    )
    found = sweep_recipe(recipe, asked, out, quiet)
    show_sweep(found)
    if json is not None:
        write_json(json, found.record)
        line(f"written: {json}")


def show_sweep(found: Sweep) -> None:
    """Prints the family."""
    from secateur.report import headline, standing

    record = found.record
    dense, metric = record["dense"], record["metric"]
    line(
        f"dense: {dense['latency_ms']:.3g} ms ({dense['artifact']}), {count(dense['params'])} parameters, "
        f"{count(dense['macs'])} multiply-adds"
        + ("" if metric is None else f", {metric['name']} {dense['metric']:.4f} on held-out data"),
        style="bold",
    )
    quality = "saliency kept" if metric is None else f"{metric['name']}, untrained"
    columns = (record["kind"], "predicted", "measured", "interval", "params", "macs", "size", quality, "")
    table(
        "Plans (latency as shares of the dense reference's; quality before recovery)",
        columns,
        [_row(record, p, standing(p)) for p in record["points"]],
        right=columns[1:-1],
    )
    line(headline(record))
    if record["prediction"] is not None:
        told = record["prediction"]
        line(
            f"predictions of latency are off by {share(told['median_error'])} at the median, on networks left out"
        )
    line(f"plans: {found.folder / 'plans'}; page: {found.folder / 'sweep.html'}")


def _row(record: dict[str, Any] | Any, p: dict[str, Any], standing: str) -> tuple[Any, ...]:
    if not p["feasible"]:
        return (p["asked"], *("–",) * 7, standing)
    timed, dense = p["measured"], record["dense"]
    low, high = timed["ratio_interval"] if timed else (0.0, 0.0)
    size = p["predicted_bytes"] if timed is None else timed["size_bytes"]
    blocks = f", {len(p['removed'])} blocks less" if p["removed"] else ""
    return (
        p["asked"] + blocks,
        "–" if p["predicted_ratio"] is None else f"{p['predicted_ratio']:.3f}x",
        f"{timed['ratio']:.3f}x {timed['dtype']}" if timed else "",
        f"{low:.3f} to {high:.3f}" if timed else "",
        f"{p['params'] / dense['params']:.3f}x",
        f"{p['macs'] / max(dense['macs'], 1):.3f}x",
        f"{'' if timed else '~'}{size / 1e6:.3g} MB",
        share(p["kept"]) if p["metric"] is None else f"{p['metric']:.4f}",
        standing,
    )


def _budgets(text: str | None, points: int | None) -> tuple[str, ...] | int:
    from secateur.pipeline import Asked

    if text is not None and points is not None:
        raise RecipeError("--budgets and --points are given; give one of them")
    if points is not None:
        return points
    if text is None:
        return Asked().named
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _measure(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdigit():
        raise RecipeError(f"cannot read --measure {text}; write a number, or all")
    return int(text)
