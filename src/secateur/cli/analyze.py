"""``secateur analyze``: what can be pruned in a model, what cannot, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from secateur.cli.blocks import show_blocks
from secateur.cli.locks import first_few, show_causes
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
)
from secateur.cli.pays import curves, effort, measured, show_worth
from secateur.cli.screen import check_file, count, line, several, share, table, write_json, write_text

SHOWN_GROUPS = 40
SHOWN_LAYERS = 3
SHOWN_CAUSES = 8


def analyze(
    model: ModelName,
    model_args: ModelArgs = None,
    weights: Weights = None,
    pretrained: Pretrained = False,
    input: InputShape = None,
    data: DataName = None,
    data_option: DataOption = None,
    task: Annotated[str, typer.Option(help="classification, or package.module:callable.")] = "classification",
    target: Annotated[str | None, typer.Option(help="Runtime and dtype, such as onnxruntime:int8.")] = None,
    against: Annotated[
        str | None, typer.Option(metavar="M2", help="A lighter architecture to compare with.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="For timing with --target, in each dtype.")] = 240.0,
    free_outputs: FreeOutputs = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Draw which layers are coupled there.")
    ] = None,
    json: JsonFile = None,
) -> None:
    """What can be pruned in a model: its groups, and locked axes with their reasons.

    With --target or --against, where its time goes there and whether pruning pays; with --data, what each group costs.
    """
    from secateur.cli.subject import Subject
    from secateur.deploy import Target
    from secateur.pipeline import analysis
    from secateur.report import by_cause
    from secateur.report import picture as drawn

    if target is not None:
        Target.parse(target)
    for path, option in ((json, "--json"), (picture, "--picture")):
        check_file(path, option)
    subject = Subject(model, model_args, weights, pretrained, input, data, data_option, free_outputs)
    groups, loaders = subject.loaded()
    other = (
        None
        if against is None
        else Subject(against, input=input, data=data, data_option=data_option).groups()
    )
    record = analysis(groups)
    if target is not None or other is not None:
        record |= measured(groups, target or "onnxruntime:auto", other, against, seconds)
    if loaders is not None:
        record["sensitivity"] = curves(groups, loaders, task)
        record["forecast"] = effort(groups, loaders, task)
    if json is not None:
        write_json(json, record)
    if picture is not None:
        write_text(picture, drawn(record, model))
    line(
        f"{model}: {count(record['params'])} parameters, {count(record['macs'])} multiply-adds for a sample, "
        f"{share(record['prunable_share'])} of the parameters prunable, in {several(len(groups), 'group')}",
        style="bold",
    )
    _show_groups(record)
    show_blocks(record["blocks"], record["params"], record["macs"])
    causes = by_cause(record["locked"])
    if causes:
        line(
            "\nLocked, most parameters first (share of the parameters at the locked positions)", style="bold"
        )
        show_causes(causes, record["params"], SHOWN_CAUSES)
    for operator, times in groups.unknown.items():
        line(f"no rule for {operator} ({several(times, 'call')}): everything it touches is locked")
    show_worth(record)
    for path in (json, picture):
        if path is not None:
            line(f"written: {path}")


def _show_groups(record: dict[str, Any]) -> None:
    from secateur.report import folded, name_range

    alike = _alike(record["groups"])
    rows = []
    for groups in alike[:SHOWN_GROUPS]:
        first = groups[0]
        layers = folded(axis["param"].rpartition(".")[0] or axis["param"] for axis in first["axes"])
        rows.append(
            (
                f"{len(groups)} ×" if len(groups) > 1 else "",
                name_range([group["name"] for group in groups]),
                f"{first['units']:,}",
                first["axes"][0]["multiplicity"],
                count(first["params"]),
                share(first["params"] / max(record["params"], 1)),
                first_few(layers, SHOWN_LAYERS),
            )
        )
    if rows:
        table(
            "Groups, largest first (parameters between two groups count in both; of groups that are alike, the first)",
            ("", "group", "units", "of positions", "parameters", "share", "coupled layers"),
            rows,
            right=("", "units", "of positions", "parameters", "share"),
        )
    if len(alike) > SHOWN_GROUPS:
        rest = sum(len(groups) for groups in alike[SHOWN_GROUPS:])
        line(f"and {several(rest, 'smaller group')}; --json FILE has all of them")


def _alike(groups: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Groups of repeated layers together: names that differ in numbers, same axes, same sizes. Largest first."""
    from secateur.report import pattern

    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for group in groups:
        axes = tuple((pattern(a["param"]), a["axis"], a["multiplicity"]) for a in group["axes"])
        name = pattern(group["name"].partition("#")[0])
        found.setdefault((name, group["units"], group["params"], axes), []).append(group)
    return sorted(found.values(), key=lambda same: -same[0]["params"])
