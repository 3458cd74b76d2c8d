"""``secateur compress``: the main job, from names to a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from secateur.cli.options import (
    DataName,
    DataOption,
    FreeOutputs,
    InputShape,
    ModelArgs,
    OptionalModelName,
    Pretrained,
    Weights,
    assignments,
    budgets_from,
    free_outputs_from,
    json_arguments,
    shape_from,
    with_criterion,
)


def compress(
    recipe: Annotated[
        Path | None, typer.Argument(metavar="[RECIPE.yaml]", help="What is asked, as YAML.")
    ] = None,
    model: OptionalModelName = None,
    model_args: ModelArgs = None,
    weights: Weights = None,
    pretrained: Pretrained = False,
    input: InputShape = None,
    data: DataName = None,
    data_option: DataOption = None,
    free_outputs: FreeOutputs = None,
    task: Annotated[str | None, typer.Option(help="classification, or package.module:callable.")] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option("--budget", metavar="KIND=AMOUNT", help="latency=0.5x, drop=1.0; repeatable."),
    ] = None,
    minimise: Annotated[
        str | None, typer.Option(help="latency, size, params or macs, where only quality has a budget.")
    ] = None,
    criterion: Annotated[
        str | None, typer.Option(help="taylor, magnitude, random, or auto: the best at the cost asked.")
    ] = None,
    plan: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Cut by this plan, such as one of a sweep's.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Runtime and dtype; onnxruntime:auto by default.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Where latency is measured; local by default.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random; 0 by default.")] = None,
    out: Annotated[Path, typer.Option(metavar="RUN", help="The folder of the run.")] = Path("run"),
    set: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Any option of a recipe: recovery.epochs=3; repeatable."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only the verdict.")] = False,
) -> None:
    """Compress a model under a budget. Options override the recipe; run again on the same RUN, it resumes."""
    from secateur.cli.outcome import show_run
    from secateur.cli.request import build_recipe
    from secateur.cli.running import run_recipe

    options = {
        "model": model,
        "model_args": json_arguments(model_args) or None,
        "weights": str(weights) if weights is not None else None,
        "pretrained": pretrained or None,
        "input": shape_from(input) if input is not None else None,
        "data": data,
        "free_outputs": free_outputs_from(free_outputs) or None,
        "task": task,
        "minimise": minimise,
        "plan": str(plan) if plan is not None else None,
        "target": target,
        "device": device,
        "seed": seed,
    }
    asked = build_recipe(
        recipe,
        options,
        budgets_from(budget),
        assignments(data_option, "--data-option"),
        with_criterion(set, criterion),
    )
    run = run_recipe(asked, out, quiet)
    show_run(run, quiet)
    raise typer.Exit(run.exit_status)
