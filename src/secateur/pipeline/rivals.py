"""A target that leaves the runtime open is settled first: everything else in a run is for one runtime."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from secateur.deploy import Exporter, Target
from secateur.latency import choose_runtime
from secateur.pipeline.artifacts import exported, one_sample, record_of
from secateur.pipeline.job import Job


def settled(job: Job) -> Job:
    """The job with the runtime in which its dense model measures fastest; itself where the target names one."""
    if not job.target.open:
        return job
    record = job.folder.journal.step("runtime", _measured, job)
    job.say(f"  dense model, measured in turn: {_words(record['rivals'])}")
    return replace(job, target=Target.parse(record["target"]))


def rivals_of(job: Job) -> list[dict[str, Any]]:
    """The runtimes that were compared, as they stand in ``verdict.json``; none where the target named one."""
    found: list[dict[str, Any]] = job.folder.journal.steps.get("runtime", {}).get("rivals", [])
    return found


def timings_of(job: Job) -> list[dict[str, Any]]:
    """Their timings, as they stand in ``measurements.jsonl``."""
    found: list[dict[str, Any]] = job.folder.journal.steps.get("runtime", {}).get("timings", [])
    return found


def _measured(job: Job) -> dict[str, Any]:
    folder = job.folder.root / "probes" / "runtimes"

    def export(exporter: Exporter) -> Path:
        name = f"{exporter.runtime}-{exporter.dtype}"
        return exported(job, job.groups.graph.module, exporter, folder, name).path

    found = choose_runtime(
        job.target,
        export,
        one_sample(job),
        device=job.device,
        threads=job.threads,
        effort=job.effort,
        seed=job.recipe.seed,
    )
    return {
        "target": str(found.target),
        "rivals": found.to_json(),
        "timings": [record_of(job.folder.root, m) for m in found.timings],
    }


def _words(rivals: list[dict[str, Any]]) -> str:
    said = [
        f"{r['runtime']} {r['dtype']} "
        + ("cannot run it" if r["ratio"] is None else f"{r['latency_ms']:.3g} ms ({r['ratio']:.2f}x)")
        for r in rivals
    ]
    best = next(r for r in rivals if r["chosen"])
    return f"{', '.join(said)}; the run uses {best['runtime']}"
