"""A recipe with its names made objects, given to the pipeline."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from secateur.cli.datasets import resolve_data
from secateur.cli.models import resolve_model
from secateur.cli.subject import example_inputs
from secateur.cli.tasks import resolve_task
from secateur.deploy import Target
from secateur.errors import RecipeError, RunFolderError
from secateur.recipe import Recipe, read_recipe, recipe_from

if TYPE_CHECKING:
    from secateur.pipeline import Asked, Run, Sweep


def run_recipe(recipe: Recipe, out: Path, quiet: bool, model: nn.Module | None = None) -> Run:
    """Runs a recipe that names its model and its data.

    Cheap checks come first, so that a wrong name is told before anything is loaded, and nothing is written.

    Args:
        model: the recipe's model, where it is there already.

    Raises:
        SecateurError: whatever makes the run impossible.
    """
    from secateur.pipeline import compress

    assert recipe.model is not None and recipe.data is not None
    Target.parse(recipe.target)
    check_out(out, recipe)
    if model is None:
        model = resolve_model(recipe.model, recipe.model_args, recipe.weights, recipe.pretrained)
    loaders = resolve_data(recipe.data, recipe.data_options)
    task = resolve_task(recipe.task, loaders.labels)
    inputs = None if recipe.input is None else example_inputs(model, recipe.model, recipe.input)
    return compress(
        model,
        (loaders.train, loaders.evaluate),
        recipe=recipe,
        out=str(out),
        task=task,
        example_inputs=inputs,
        quiet=quiet,
    )


def sweep_recipe(recipe: Recipe, asked: Asked, out: Path, quiet: bool) -> Sweep:
    """Sweeps over budgets with the options of a recipe that names its model, and its data if there are any.

    Raises:
        SecateurError: whatever makes the sweep impossible.
    """
    from secateur.pipeline import sweep

    assert recipe.model is not None
    Target.parse(recipe.target)
    model = resolve_model(recipe.model, recipe.model_args, recipe.weights, recipe.pretrained)
    loaders = resolve_data(recipe.data, recipe.data_options) if recipe.data is not None else None
    inputs = None
    if recipe.input is not None or loaders is None:
        inputs = example_inputs(model, recipe.model, recipe.input)
    return sweep(
        model,
        None if loaders is None else (loaders.train, loaders.evaluate),
        kind=asked.kind,
        budgets=asked.budgets,
        measure=asked.measure,
        recipe=recipe,
        out=str(out),
        task=resolve_task(recipe.task, None if loaders is None else loaders.labels),
        example_inputs=inputs,
        quiet=quiet,
    )


def check_out(out: Path, recipe: Recipe) -> None:
    """Refuses an output folder that cannot become this run, or go on as it, without touching it.

    Raises:
        RunFolderError: it is a file, holds something else or another run, or cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise RunFolderError(f"{out} is a file; give another folder with --out")
    existing = next(p for p in (out, *out.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise RunFolderError(f"cannot make {out}: {existing} is a file; give another folder with --out")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise RunFolderError(f"{existing} cannot be written (read-only); give another folder with --out")
    if not out.is_dir():
        return
    if (out / "recipe.yaml").is_file():
        _same_recipe(out, recipe)
    elif strangers := sorted(p.name for p in out.iterdir() if not p.name.startswith(".")):
        raise RunFolderError(
            f"{out} holds {strangers[0]} and no run; give another folder with --out, or empty it"
        )


def _same_recipe(out: Path, recipe: Recipe) -> None:
    try:
        before = recipe_from(read_recipe(out / "recipe.yaml"), str(out / "recipe.yaml"))
    except RecipeError as error:
        raise RunFolderError(f"{out} is no run of this version ({error}); give another folder") from error
    old, new = _flat(before.to_dict()), _flat(recipe.to_dict())
    differing = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    if differing:
        name = differing[0]
        raise RunFolderError(
            f"{out} belongs to another recipe ({name}: {old.get(name)} there, {new.get(name)} asked); "
            "give another folder with --out"
        )


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested options under dotted names."""
    found: dict[str, Any] = {}
    for name, value in data.items():
        found.update(
            _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
        )
    return found
