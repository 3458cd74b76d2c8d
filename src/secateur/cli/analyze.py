"""``secateur analyze``: what can be pruned in a model, what cannot, and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from secateur.cli.options import (
    DataName,
    DataOption,
    InputShape,
    JsonFile,
    ModelArgs,
    ModelName,
    Pretrained,
    Weights,
)
from secateur.cli.screen import count, line, several, share, table, write_json

SHOWN_GROUPS = 40
SHOWN_LAYERS = 3


def analyze(
    model: ModelName,
    model_args: ModelArgs = None,
    weights: Weights = None,
    pretrained: Pretrained = False,
    input: InputShape = None,
    data: DataName = None,
    data_option: DataOption = None,
    target: Annotated[str | None, typer.Option(help="Runtime and dtype, such as onnxruntime:int8.")] = None,
    against: Annotated[
        str | None, typer.Option(metavar="M2", help="A lighter architecture to compare with.")
    ] = None,
    json: JsonFile = None,
) -> None:
    """What can be pruned in a model: its groups, and locked axes with their reasons."""
    from secateur.cli.subject import Subject
    from secateur.deploy import Target
    from secateur.pipeline import analysis

    if target is not None:
        Target.parse(target)
    groups = Subject(model, model_args, weights, pretrained, input, data, data_option).groups()
    record = analysis(groups)
    if json is not None:
        write_json(json, record)
    line(
        f"{model}: {count(record['params'])} parameters, {count(record['macs'])} multiply-adds for a sample, "
        f"{share(record['prunable_share'])} of the parameters prunable, in {several(len(groups), 'group')}",
        style="bold",
    )
    _show_groups(record)
    _show_locks(record["locked"])
    for operator, times in groups.unknown.items():
        line(f"no rule for {operator} ({several(times, 'call')}): everything it touches is locked")
    asked = [
        name for name, given in (("--target", target), ("--data", data), ("--against", against)) if given
    ]
    if asked:
        line(
            f"{' and '.join(asked)}: suitability, sensitivity and the comparison of architectures are not part of "
            "this version"
        )
    if json is not None:
        line(f"written: {json}")


def _show_groups(record: dict[str, Any]) -> None:
    by_size = sorted(record["groups"], key=lambda g: -g["params"])
    rows = []
    for group in by_size[:SHOWN_GROUPS]:
        layers = list(
            dict.fromkeys(axis["param"].rpartition(".")[0] or axis["param"] for axis in group["axes"])
        )
        rows.append(
            (
                group["name"],
                f"{group['units']:,}",
                count(group["params"]),
                share(group["params"] / max(record["params"], 1)),
                len(layers),
                _first(layers, SHOWN_LAYERS),
            )
        )
    if rows:
        table(
            "Groups, largest first (parameters between two groups count in both)",
            ("group", "units", "parameters", "share", "layers", "coupled layers"),
            rows,
            right=("units", "parameters", "share", "layers"),
        )
    if len(by_size) > SHOWN_GROUPS:
        line(f"and {several(len(by_size) - SHOWN_GROUPS, 'smaller group')}; --json FILE has all of them")


def _show_locks(locked: Sequence[dict[str, Any]]) -> None:
    gathered: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for lock in locked:
        gathered[lock["reason"], lock["operator"], lock["remedy"]].append(lock)
    rows = []
    for (reason, operator, remedy), locks in gathered.items():
        held = sum({lock["param"]: lock["params"] for lock in locks}.values())
        names = [f"{lock['param']}:{lock['axis']}" for lock in locks]
        sources = list(dict.fromkeys(lock["source"] for lock in locks if lock["source"] != "-"))
        rows.append((reason, operator, len(locks), count(held), _first(names, 2), _first(sources, 1), remedy))
    if rows:
        table(
            "Locked, by reason",
            ("why", "operator", "axes", "parameters", "where", "code", "what would free it"),
            rows,
            right=("axes", "parameters"),
        )


def _first(names: Sequence[str], most: int) -> str:
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
