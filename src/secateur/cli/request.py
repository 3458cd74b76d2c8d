"""A recipe from a file and the options given beside it; options win, ``--set`` wins over all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from secateur.cli.options import assignments
from secateur.errors import RecipeError
from secateur.recipe import Recipe, read_recipe, recipe_from


def build_recipe(
    path: Path | None,
    options: Mapping[str, Any],
    budgets: Mapping[str, str],
    data_options: Mapping[str, Any],
    settings: Iterable[str] | None,
    *,
    needs_data: bool = True,
) -> Recipe:
    """The recipe of a run.

    Args:
        path: a YAML recipe.
        options: recipe fields given as options; ``None`` means not given.
        budgets, data_options: merged into those of the recipe, kind by kind and name by name.
        settings: ``--set`` options, such as ``recovery.epochs=3``.
        needs_data: whether it is wrong not to name any.

    Raises:
        RecipeError: the file cannot be read, or the sum of it all cannot be honoured.
    """
    data = read_recipe(path) if path is not None else {}
    data.update({name: value for name, value in options.items() if value is not None})
    for name, given in (("budget", budgets), ("data_options", data_options)):
        if given:
            data[name] = {**_mapping(data.get(name), name), **given}
    for name, value in assignments(settings, "--set").items():
        _put(data, name, value)
    recipe = recipe_from(data, str(path) if path is not None else "the request")
    if recipe.model is None:
        raise RecipeError("no model is given; say --model, or 'model:' in the recipe")
    if recipe.data is None and needs_data:
        raise RecipeError("no data are given; say --data, or 'data:' in the recipe")
    return recipe


def _put(data: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        data[parent] = dict(_mapping(data.get(parent), dotted))
        data = data[parent]
    data[last] = value


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise RecipeError(f"{name}: there is {value!r} where a mapping of names to values is expected")
    return value
