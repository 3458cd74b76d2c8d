"""Exports a model for the target in each dtype asked for, and measures what came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from secateur.bench import Effort, Entry, Measurement, measure
from secateur.data import Data
from secateur.deploy import Artifact, Exporter, export, format_for
from secateur.pipeline.job import Job


def build(job: Job, model: nn.Module, where: str, prefix: str, dtypes: Sequence[str]) -> list[Artifact]:
    """Exports a model in each dtype, each through the parity gate on held-out batches.

    Args:
        model: what to export.
        where: folder inside the run.
        prefix: ``dense`` or ``pruned``; artifacts are called ``<prefix>-<dtype>``.
        dtypes: of the target's runtime.
    """
    folder = job.folder.root / where
    built = []
    for dtype in dtypes:
        exporter = format_for(job.target.runtime, dtype)
        artifact = exported(job, model, exporter, folder, f"{prefix}-{dtype}")
        built.append(replace(artifact, path=artifact.path.relative_to(job.folder.root)))
    return built


def exported(job: Job, model: nn.Module, exporter: Exporter, folder: Path, name: str) -> Artifact:
    """One artifact in a folder, through the parity gate on held-out batches."""
    folder.mkdir(parents=True, exist_ok=True)
    return export(
        model,
        job.example,
        exporter,
        folder,
        _some(job.data),
        job.task if job.labelled else None,
        calibration=job.data.calibration,
        name=name,
    )


def dense_dtypes(job: Job) -> tuple[str, ...]:
    """The dtypes that the dense model and the result are exported in: fp32 always, to compare with."""
    return tuple(dict.fromkeys(("fp32", *job.target.dtypes)))


def timed(
    job: Job,
    artifacts: Sequence[Artifact],
    phase: str,
    reference: str,
    effort: Effort | None = None,
    predicted: Mapping[str, float | None] | None = None,
) -> list[dict[str, Any]]:
    """Measures artifacts in turn; the records of ``measurements.jsonl``, beside what was predicted for a dtype."""
    expected = {} if predicted is None else predicted
    entries = [
        Entry(
            a.name,
            job.folder.root / a.path,
            a.runtime,
            a.dtype,
            None if a.name.startswith("dense") else expected.get(a.dtype),
        )
        for a in artifacts
    ]
    found = measure(
        entries,
        one_sample(job),
        reference=reference,
        device=job.device,
        threads=job.threads,
        phase=phase,
        effort=effort or job.effort,
        seed=job.recipe.seed,
    )
    return [record_of(job.folder.root, m) for m in found]


def one_sample(job: Job) -> Any:
    """Inputs of a batch of one, from the calibration data."""
    from secateur.data import slice_batch

    return slice_batch(job.data.calibration[0], 0, 1)


def _some(data: Data) -> list[Any]:
    """A few held-out batches for the parity gate."""
    batches = []
    for batch in data.select:
        batches.append(batch)
        if len(batches) == 4:
            break
    return batches


def record_of(root: Path, measurement: Measurement) -> dict[str, Any]:
    """A line of ``measurements.jsonl``: the path is told from the run's folder."""
    record = measurement.to_json()
    record["path"] = str(Path(record["path"]).relative_to(root))
    return record
