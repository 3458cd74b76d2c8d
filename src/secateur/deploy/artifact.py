"""What comes out of an export: a file for a runtime, and how far it is from the model it came from."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Artifact:
    """An exported file that passed the parity gate.

    Args:
        path: the file.
        runtime: the name of the runtime that runs it, such as ``onnxruntime``.
        dtype: ``fp32`` or ``int8``.
        bytes: size of the file.
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
