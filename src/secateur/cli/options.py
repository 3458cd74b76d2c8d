"""Options that several commands share, and how their text becomes values.

A value that looks like YAML is read as YAML, so that ``--data-option mean=[0.5]`` and ``--set recovery.lr=1e-4`` mean
what they say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from secateur.cli.objects import closest
from secateur.errors import RecipeError

ModelName = Annotated[
    str,
    typer.Option(
        "--model", help="package.module:callable, timm:NAME, torchvision:NAME, hf:NAME or a .pt2 file."
    ),
]
OptionalModelName = Annotated[
    str | None,
    typer.Option(
        "--model", help="package.module:callable, timm:NAME, torchvision:NAME, hf:NAME or a .pt2 file."
    ),
]
ModelArgs = Annotated[
    str | None, typer.Option(metavar="JSON", help="Keyword arguments for the model's callable.")
]
Weights = Annotated[
    Path | None, typer.Option(metavar="FILE", help="safetensors, or a .pth that holds tensors alone.")
]
Pretrained = Annotated[
    bool, typer.Option("--pretrained", help="Ask timm or torchvision for trained weights.")
]
InputShape = Annotated[
    str | None, typer.Option("--input", metavar="SHAPE", help="Such as 1,3,224,224, where there are no data.")
]
DataName = Annotated[
    str | None, typer.Option("--data", help="digits, imagefolder:PATH, hf:NAME or package.module:callable.")
]
DataOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="An option of the data, such as size=32; repeatable."),
]
FreeOutputs = Annotated[
    list[str] | None,
    typer.Option(
        "--free-outputs",
        metavar="NAME[:AXIS]",
        help="An output that may get narrower, by name or index, or all; repeatable.",
    ),
]
JsonFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the record there as JSON.")
]

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


def shape_from(text: str) -> tuple[int, ...]:
    """``1,3,224,224`` or ``1x3x224x224`` as numbers.

    Raises:
        RecipeError: it is neither, or a length is below 1.
    """
    parts = re.split(r"[,x\s]+", text.strip("()[] "))
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise RecipeError(f"cannot read the shape --input {text}; write it like 1,3,224,224, the batch first")
    return tuple(int(part) for part in parts)


def free_outputs_from(given: Iterable[str] | None) -> bool | dict[str, Any]:
    """``--free-outputs`` as :func:`secateur.find_groups` takes it: ``logits:1,2``, ``features``, or ``all``.

    Raises:
        RecipeError: an axis is no number.
    """
    found: dict[str, Any] = {}
    for text in given or ():
        name, colon, axes = text.partition(":")
        numbers = axes.split(",")
        if not name or (colon and not all(n.strip().lstrip("-").isdigit() for n in numbers)):
            raise RecipeError(f"cannot read --free-outputs {text}; write NAME, NAME:AXIS or all")
        found[name] = [*(found.get(name) or ()), *(int(n) for n in numbers)] if colon else None
    return True if "all" in found else found


def json_arguments(text: str | None) -> dict[str, Any]:
    """``--model-args`` as keyword arguments.

    Raises:
        RecipeError: it is no JSON object.
    """
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except ValueError as error:
        raise RecipeError(
            f"--model-args {text} is no JSON: {error}; write it like '{{\"depth\": 20}}'"
        ) from error
    if not isinstance(value, dict):
        raise RecipeError(f"--model-args {text} must be a JSON object of names to values")
    return value


def assignments(given: Iterable[str] | None, option: str) -> dict[str, Any]:
    """``name=value`` pairs, values read as YAML.

    Raises:
        RecipeError: an equals sign is missing, a name is given twice, or a value is no YAML.
    """
    found: dict[str, Any] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise RecipeError(f"cannot read {option} {text}; write {option} NAME=VALUE")
        if name in found:
            raise RecipeError(
                f"{option} {name} is given twice, as {found[name]!r} and as {value!r}; give it once"
            )
        found[name] = plain_value(value, f"{option} {text}")
    return found


def with_criterion(settings: Iterable[str] | None, criterion: str | None) -> list[str]:
    """``--set`` options, and ``--criterion`` among them."""
    return [*(settings or ()), *([] if criterion is None else [f"criterion.name={criterion}"])]


def plain_value(text: str, origin: str) -> Any:
    """A value in YAML; ``1e-4`` is a number, although YAML 1.1 takes it for text.

    Raises:
        RecipeError: it is no YAML.
    """
    import yaml

    if _NUMBER.fullmatch(text.strip()):
        return float(text)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"cannot read {origin}: {' '.join(str(error).split())}") from error


def budgets_from(given: Iterable[str] | None) -> dict[str, str]:
    """``--budget kind=amount`` options by kind; amounts are read when the recipe is built.

    Raises:
        RecipeError: an unknown kind, no amount, or two amounts of one kind.
    """
    from secateur.planning import Budget

    kinds = [field.name for field in fields(Budget)]
    found: dict[str, str] = {}
    for text in given or ():
        kind, equals, amount = text.partition("=")
        kind, amount = kind.strip(), amount.strip()
        if kind not in kinds:
            raise RecipeError(
                f"no budget is called {kind!r}; there are {', '.join(kinds)}{closest(kind, kinds)}"
            )
        if not equals or not amount:
            raise RecipeError(f"cannot read --budget {text}; write for example --budget {kind}=0.5x")
        if found.get(kind, amount) != amount:
            raise RecipeError(
                f"contradictory budgets: {kind}={found[kind]} and {kind}={amount}; give one of them"
            )
        found[kind] = amount
    return found
