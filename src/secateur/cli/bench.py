"""``secateur bench``: artifacts timed in turn on random inputs, with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from secateur.cli.options import JsonFile
from secateur.cli.screen import line, table, write_json

if TYPE_CHECKING:
    from secateur.bench import Device, Entry, Measurement

SUFFIXES = {".onnx": "onnxruntime", ".pt2": "torch", ".xml": "openvino"}


def bench(
    artifacts: Annotated[
        list[Path],
        typer.Argument(metavar="ARTIFACT...", help=".onnx, .xml and .pt2 files, and folders of runs."),
    ],
    device: Annotated[str, typer.Option(help="Where to measure.")] = "local",
    threads: Annotated[int | None, typer.Option(min=1, help="As many as there are cores by default.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Samples at a time; 1 by default.")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Stop after this long at the latest.")] = 20.0,
    input: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="SHAPE", help="Such as 1,3,224,224, or NAME=1,128; repeatable."),
    ] = None,
    json: JsonFile = None,
) -> None:
    """Measured latency of artifacts, interleaved, with intervals; the first is what the others are compared with."""
    from secateur.bench import Effort, measure
    from secateur.cli.artifact_inputs import random_inputs

    where = _device(device)
    entries = [entry for path in artifacts for entry in _entries(path)]
    entries = _distinct(entries)
    _check_runtimes(entries)
    inputs = random_inputs(entries, batch, input or ())
    found = measure(entries, inputs, device=where, threads=threads, effort=Effort(seconds=seconds))
    if json is not None:
        write_json(json, [m.to_json() for m in found])
    _show(found)
    if json is not None:
        line(f"written: {json}")


def _device(name: str) -> Device:
    from secateur.bench import LocalDevice
    from secateur.errors import UnknownName

    if name != "local":
        raise UnknownName(f"no device {name!r}; this version has local")
    return LocalDevice()


def _entries(path: Path) -> list[Entry]:
    """The artifacts that a path stands for: itself, or those of a run, the dense ones first."""
    from secateur.bench import Entry
    from secateur.errors import InputError, UnknownName

    if path.is_dir():
        folder = path / "artifacts"
        files = [f for f in sorted(folder.rglob("*")) if f.suffix in SUFFIXES and not f.name.startswith(".")]
        if not files:
            raise InputError(f"{path} holds no artifacts; give files, or the folder of a finished run")
        files.sort(key=lambda f: (f.parent == folder, _dtype(f) == "int8"))
        return [
            Entry(
                f"{path.name}/{f.relative_to(folder)}".removeprefix("/"),
                f,
                SUFFIXES[f.suffix],
                _dtype(f),
            )
            for f in files
        ]
    if path.suffix not in SUFFIXES:
        raise UnknownName(f"{path} is no artifact; give .onnx, .xml or .pt2 files, or the folder of a run")
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    return [Entry(path.name, path, SUFFIXES[path.suffix], _dtype(path))]


def _dtype(path: Path) -> str:
    return "int8" if "int8" in path.name else "fp32"


def _distinct(entries: list[Entry]) -> list[Entry]:
    """Files of the same name in different folders are called by their paths."""
    from dataclasses import replace

    names = [e.artifact for e in entries]
    unique = {str(e.path): e for e in entries}
    return [replace(e, artifact=p) if names.count(e.artifact) > 1 else e for p, e in unique.items()]


def _check_runtimes(entries: list[Entry]) -> None:
    from secateur.deploy import runtime_named
    from secateur.errors import MissingExtra

    for runtime in dict.fromkeys(entry.runtime for entry in entries):
        known = runtime_named(runtime)
        if not known.available() and known.extra is not None:
            suffix = next(s for s, name in SUFFIXES.items() if name == runtime)
            raise MissingExtra(runtime, known.extra, f"timing {suffix} files")


def _show(found: list[Measurement]) -> None:
    rows = [
        (
            m.artifact,
            f"{m.runtime}:{m.dtype}",
            f"{m.median_ms:.3f}",
            f"{m.interval_ms[0]:.3f} to {m.interval_ms[1]:.3f}",
            f"{m.p95_ms:.3f}",
            "1" if m.ratio is None else f"{m.ratio:.3f}",
            "" if m.ratio_interval is None else f"{m.ratio_interval[0]:.3f} to {m.ratio_interval[1]:.3f}",
            m.samples,
        )
        for m in found
    ]
    first = found[0]
    table(
        f"latency in ms, batch {first.batch}, threads {first.threads}; ratios to {first.artifact}, measured in turn",
        ("artifact", "runtime", "median", "95 % interval", "p95", "ratio", "95 % interval of it", "runs"),
        rows,
        right=("median", "p95", "ratio", "runs"),
    )
    if any(m.loaded for m in found):
        line("the machine was busy with other work meanwhile: trust the ratios more than the times")
