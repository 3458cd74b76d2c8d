"""What comes out of an export: a file for a runtime, and how far it is from the model it came from.

An artifact is one path for whoever passes it on. Where a runtime keeps the weights in a second file, that file stands
beside it under the same name; :func:`files_of` knows it, so that sizes count both, and both are moved or removed.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

BESIDE = {".xml": ".bin"}  # OpenVINO: the network, and its weights


@dataclass(frozen=True)
class Artifact:
    """An exported file that passed the parity gate.

    Args:
        path: the file; see :func:`files_of`.
        runtime: the name of the runtime that runs it, such as ``onnxruntime`` or ``openvino``.
        dtype: ``fp32`` or ``int8``.
        bytes: size of its files.
        max_relative_error: largest |artifact - model| over largest |model|, over all outputs and batches.
        metric: the task's metric of the artifact on the batches of the gate, a fraction; ``None`` without a task.
        name: how reports and measurements call it, such as ``pruned-int8``.
    """

    path: Path
    runtime: str
    dtype: str
    bytes: int
    max_relative_error: float
    metric: float | None
    name: str

    def to_json(self) -> dict[str, Any]:
        """The record as JSON data; the path becomes a string."""
        return {**asdict(self), "path": str(self.path)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Artifact:
        """The inverse of :meth:`to_json`."""
        return replace(cls(**data), path=Path(data["path"]))


def files_of(path: Path) -> tuple[Path, ...]:
    """The files of the artifact at ``path``, that one last: where it is there, they all are."""
    beside = BESIDE.get(path.suffix)
    return (path,) if beside is None else (path.with_suffix(beside), path)


def size_of(path: Path) -> int:
    """Bytes of all its files."""
    return sum(file.stat().st_size for file in files_of(path))


def is_whole(path: Path) -> bool:
    """Whether all its files are there."""
    return all(file.is_file() for file in files_of(path))


def move(source: Path, destination: Path) -> Path:
    """Moves all its files, within one disk, over what was there."""
    destination.unlink(missing_ok=True)  # so that no file ever stands beside another's weights
    for old, new in zip(files_of(source), files_of(destination), strict=True):
        os.replace(old, new)
    return destination


def remove(path: Path) -> None:
    """Removes all its files that are there, ``path`` first."""
    for file in reversed(files_of(path)):
        file.unlink(missing_ok=True)
