"""``secateur doctor``: what works on this machine, found out by doing it on a tiny model, and what to install."""

from __future__ import annotations

import importlib
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secateur.cli.objects import has_package, told
from secateur.cli.screen import line, table

if TYPE_CHECKING:
    from torch import nn

    from secateur.deploy import Exporter


@dataclass(frozen=True)
class Row:
    """One thing that was tried.

    Args:
        kind: ``core``, ``runtime``, ``exporter``, ``device``, ``models``, ``data`` or ``tracker``.
        name: what it is.
        works: whether it did.
        version: its version, if it has one.
        detail: what was seen: what was run, or why it failed.
        install: the command that brings it, where it does not work.
    """

    kind: str
    name: str
    works: bool
    version: str | None
    detail: str
    install: str | None = None


def doctor(
    json: Annotated[bool, typer.Option("--json", help="The rows as JSON, on standard output.")] = False,
) -> None:
    """What works on this machine: runtimes, exporters, devices, trackers; or what to install."""
    found = list(rows())
    if json:
        import json as writer

        print(writer.dumps({"checks": [asdict(row) for row in found]}, indent=1))
        return
    table(
        "",
        ("", "name", "works", "version", "seen", "what to install"),
        [(r.kind, r.name, "yes" if r.works else "no", r.version, r.detail, r.install) for r in found],
    )
    missing = [r.name for r in found if not r.works and r.kind in ("runtime", "exporter")]
    line(
        f"not working: {', '.join(missing)}"
        if missing
        else "everything that 'secateur compress' needs works here"
    )


def rows() -> Iterator[Row]:
    """Every check, in order."""
    import torch

    from secateur import __version__

    yield Row("core", "python", True, platform.python_version(), platform.platform())
    yield Row("core", "torch", True, str(torch.__version__), "imported")
    yield Row("core", "secateur", True, __version__, "imported")
    yield from _exporters()
    yield from _devices()
    yield from _packages()


def _exporters() -> Iterator[Row]:
    """Every format, written, run and compared on a tiny network; a runtime works if one of its formats does."""
    from secateur.deploy import formats, runtimes

    worked: dict[str, str] = {}
    found = []
    with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
        for name, exporter in formats.items():
            install = _install(exporter.runtime)
            detail, works = _tried(lambda name=name: _export(name, Path(folder)))  # type: ignore[misc]
            if works:
                worked[exporter.runtime] = "ran a tiny network"
            found.append(
                Row("exporter", name, works, _exporter_version(exporter), detail, None if works else install)
            )
    for name, runtime in runtimes.items():
        works = name in worked
        detail = worked.get(name, "installed, but ran nothing" if runtime.available() else "not installed")
        install = None if works else _install(name)
        yield Row("runtime", name, works, runtime.version(), detail, install)
    yield from found


def _install(runtime: str) -> str | None:
    from secateur.deploy import runtimes

    extra = runtimes[runtime].extra
    return None if extra is None else f"pip install 'secateur[{extra}]'"


def _exporter_version(exporter: Exporter) -> str | None:
    if exporter.runtime == "openvino":
        return _version("nncf" if exporter.calibrated else "openvino")
    return _version("torch" if exporter.runtime == "torch" else "onnx")


def _export(format: str, folder: Path) -> str:
    import torch

    from secateur.deploy import export

    inputs = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    artifact = export(_tiny(), inputs, format, folder, [(inputs, None)], calibration=[inputs])
    return f"written and run, relative error {artifact.max_relative_error:.1g}"


def _tiny() -> nn.Module:
    import torch
    from torch import nn

    from secateur.data import seeded

    class Tiny(nn.Module):
        """Convolution, norm, pool, classifier."""

        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
            self.classifier = nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> Any:
            return self.classifier(self.features(x).mean(dim=(2, 3)))

    with seeded(0):
        return Tiny().eval()


def _tried(work: Callable[[], str]) -> tuple[str, bool]:
    """What ``work`` says, and whether it got that far: a doctor reports every failure, of whatever kind."""
    try:
        return work(), True
    except Exception as error:
        return told(error), False


def _devices() -> Iterator[Row]:
    import torch

    from secateur.bench import default_threads

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Row(
        "device", "cpu", True, None, f"{cores} cores; artifacts are timed with {default_threads()} threads"
    )

    def cuda() -> str:
        if not torch.cuda.is_available():
            raise RuntimeError("torch sees no CUDA device")
        ones = torch.ones(8, 8, device="cuda")
        return f"{torch.cuda.get_device_name()}, computed {float((ones @ ones).sum()):g}"

    detail, works = _tried(cuda)
    version = str(torch.version.cuda) if torch.version.cuda else None
    install = None if works else "nothing is needed: it would only make training faster"
    yield Row("device", "cuda", works, version, detail, install)


def _packages() -> Iterator[Row]:
    for kind, package, distribution, install in (
        ("models", "timm", "timm", "pip install 'secateur[timm]'"),
        ("models", "torchvision", "torchvision", "pip install 'secateur[torchvision]', for the torch above"),
        ("models", "transformers", "transformers", "pip install 'secateur[transformers]'"),
        ("data", "sklearn", "scikit-learn", "pip install 'secateur[demo]'"),
        ("data", "PIL", "pillow", "pip install 'secateur[images]'"),
        ("data", "datasets", "datasets", "pip install 'secateur[data]'"),
        ("tracker", "tensorboard", "tensorboard", "pip install tensorboard"),
        ("tracker", "mlflow", "mlflow", "pip install mlflow"),
    ):
        if not has_package(package):
            detail, works = "not installed", False
        elif kind == "tracker":  # takes seconds to import, and is not used yet; finding it is enough
            detail, works = "installed", True
        else:
            detail, works = _tried(lambda package=package: _imported(package))  # type: ignore[misc]
        if package != "torchvision" and "torchvision" in detail:
            install = "the torchvision that belongs to the torch above"
        yield Row(kind, distribution, works, _version(distribution), detail, None if works else install)


def _imported(package: str) -> str:
    importlib.import_module(package)
    return "imported"


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
