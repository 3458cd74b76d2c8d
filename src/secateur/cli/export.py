"""``secateur export``: further artifacts of a finished run, each through the parity gate."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secateur.cli.options import DataName, DataOption, assignments
from secateur.cli.screen import line, table, write_json
from secateur.errors import CorruptFile, DataError, RecipeError, RunFolderError

if TYPE_CHECKING:
    from torch import nn

    from secateur.deploy import Artifact
    from secateur.task import Inputs, Task


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    more: Annotated[list[str] | None, typer.Argument(metavar="[FORMAT]...", hidden=True)] = None,
    to: Annotated[
        list[str] | None,
        typer.Option(
            "--to", metavar="FORMAT...", help="onnx, onnx-int8, openvino, openvino-int8, pt2; one or several."
        ),
    ] = None,
    data: DataName = None,
    data_option: DataOption = None,
) -> None:
    """Export the pruned model of a finished run in more formats, each compared with the model first."""
    from secateur.deploy import format_named

    wanted = list(
        dict.fromkeys(name for text in [*(to or ()), *(more or ())] for name in text.split(",") if name)
    )
    if not wanted:
        from secateur.deploy import formats

        raise RecipeError(f"no format is given; say --to and one or several of {', '.join(formats)}")
    exporters = [format_named(name) for name in wanted]
    verdict = _verdict(run)
    material = _material(run, data, assignments(data_option, "--data-option"))
    lacking = [e.name for e in exporters if e.calibrated and not material.calibration]
    if lacking:
        raise DataError(
            f"the format {lacking[0]} needs data to calibrate on, and the run was made from Python objects, so none "
            "are known by name; give --data"
        )
    line(material.what)
    made = []
    for exporter in exporters:
        artifact = _one(run / "artifacts", exporter.name, material)
        _record(run, verdict, artifact)
        made.append(artifact)
    table(
        "",
        ("artifact", "bytes", "runtime", "largest relative error", "metric"),
        [
            (
                a.path,
                f"{a.bytes:,}",
                f"{a.runtime}:{a.dtype}",
                f"{a.max_relative_error:.2g}",
                "" if a.metric is None else f"{a.metric:.4f}",
            )
            for a in made
        ],
        right=("bytes", "largest relative error", "metric"),
    )


@dataclass(frozen=True)
class Material:
    """What exporting takes: the model, and batches for calibration and parity. ``what`` says where they are from."""

    model: nn.Module
    example: Inputs
    batches: Iterable[Any]
    calibration: Sequence[Inputs]
    task: Task | None
    what: str


def _verdict(run: Path) -> dict[str, Any]:
    """The verdict of a finished run.

    Raises:
        RunFolderError: the folder holds no finished run.
        CorruptFile: the record is damaged.
    """
    if not run.is_dir():
        raise RunFolderError(f"{run} is no folder; give the folder of a finished run")
    path = run / "verdict.json"
    if not path.is_file() or not (run / "model.json").is_file():
        raise RunFolderError(
            f"{run} holds no finished run (no verdict.json and model.json); run 'compress' to its end"
        )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CorruptFile(f"{path} is no valid JSON; run the same command again to restore it") from error
    if not isinstance(found, dict):
        raise CorruptFile(f"{path} should hold a JSON object")
    return found


def _material(run: Path, data: str | None, data_options: Mapping[str, Any]) -> Material:
    from secateur.surgery import load

    recipe = _recipe(run)
    model: Any = load(run)
    name = data or recipe.get("data")
    if name is not None:
        return _from_data(model, name, data_options if data else recipe.get("data_options") or {}, recipe)
    kept: Any = model.meta["secateur"]
    args, kwargs = tuple(kept["args"]), dict(kept["kwargs"])
    if args and kwargs:
        raise DataError(
            f"{run} was made with positional and keyword inputs, and no data by name; give --data"
        )
    inputs: Inputs = kwargs or (args[0] if len(args) == 1 else args)
    return Material(
        model,
        inputs,
        [(inputs, None)],
        (),
        None,
        "the run names no data: artifacts are compared on its stored reference inputs alone, without a metric",
    )


def _from_data(
    model: nn.Module, name: str, options: Mapping[str, Any], recipe: Mapping[str, Any]
) -> Material:
    from secateur.cli.datasets import resolve_data
    from secateur.cli.tasks import resolve_task
    from secateur.data import split_data

    loaders = resolve_data(name, options)
    task = resolve_task(recipe.get("task") or "classification", loaders.labels)
    seed, held_out = recipe.get("seed", 0), recipe.get("held_out", 0.1)
    data = split_data(loaders.train, loaders.evaluate, labels=loaders.labels, seed=seed, held_out=held_out)
    what = f"calibrated on training data of {name}, compared on its held-out part"
    return Material(model, data.example_inputs, data.select, data.calibration, task, what)


def _recipe(run: Path) -> dict[str, Any]:
    from secateur.recipe import read_recipe

    return read_recipe(run / "recipe.yaml") if (run / "recipe.yaml").is_file() else {}


def _one(folder: Path, format: str, material: Material) -> Artifact:
    """Writes one artifact; an older one of that name stays until the new one has passed the gate."""
    from dataclasses import replace

    from secateur import deploy

    try:
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as temporary:
            artifact = deploy.export(
                material.model,
                material.example,
                format,
                Path(temporary),
                material.batches,
                material.task,
                calibration=material.calibration,
                name=f"pruned-{format}",
            )
            final = folder / artifact.path.name
            deploy.move(artifact.path, final)
    except OSError as error:
        raise RunFolderError(f"cannot write in {folder}: {error.strerror or error}") from error
    return replace(artifact, path=final)


def _record(run: Path, verdict: dict[str, Any], artifact: Artifact) -> None:
    """Enters an artifact in verdict.json, in place of one at the same path, and brings the page up to date."""
    from secateur.report import write_report

    path = artifact.path.relative_to(run).as_posix()
    before: dict[str, Any] = next((a for a in verdict.get("artifacts", ()) if a.get("path") == path), {})
    # A record that the run has made says more: its name in the measurements, and its metric on evaluation data.
    known: dict[str, Any] = {key: before[key] for key in ("name", "metric", "final") if key in before}
    entry: dict[str, Any] = {**artifact.to_json(), "path": path, "final": False, **known}
    kept = [a for a in verdict.get("artifacts", ()) if a.get("path") != path]
    verdict["artifacts"] = [*kept, entry]
    write_json(run / "verdict.json", verdict)
    write_report([run], run / "report.html")
