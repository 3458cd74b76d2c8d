"""Dense, pruned and quantised side by side, and the final artifact against every dense variant."""

from __future__ import annotations

from secateur.report.figures import MISSING, digits, interval, quantity, times
from secateur.report.final import (
    ORDER,
    artifact_label,
    counts,
    final_artifact,
    final_timings,
    in_text,
    metric_text,
)
from secateur.report.parts import Cell, Row, Table
from secateur.report.records import Artifact, Run


def variants(run: Run) -> Table | None:
    """Dense, pruned and quantised side by side."""
    timings = {t.artifact: t for t in final_timings(run)}
    names = list(timings)
    v = run.verdict
    if v is not None:
        known = {"dense-fp32": v.dense, "pruned-fp32": v.pruned, "pruned-int8": v.quantized}
        names += [n for n, value in known.items() if value is not None and n not in names]
    names = sorted((n for n in names if n in ORDER or n in timings), key=lambda n: (ORDER.get(n, 9), n))
    if not names:
        return None
    files = _files(run)
    sizes, metrics, errors = (
        sizes_of(run),
        _metrics(run),
        {n: a.max_relative_error for n, a in files.items()},
    )
    kept = {key: counts(run, key) for key in ("params", "macs")}
    reference = v.reference if v else ""

    def timed(name: str) -> Cell:
        t = timings.get(name)
        return Cell(quantity(t.median_ms, "ms"), interval(t.bounds, "ms")) if t else Cell(MISSING)

    def paired(name: str) -> Cell:
        t = timings.get(name)
        if name == reference:
            return Cell("1×", "the reference")
        return Cell(quantity(t.ratio, "x"), interval(t.ratio_bounds, "x")) if t else Cell(MISSING)

    def counted(name: str, key: str) -> Cell:
        before, after = kept[key]
        value = before if name.startswith("dense") else after if name.startswith("pruned") else None
        share = (
            f"{quantity(after / before, 'share')} left"
            if value is not None and value == after != before and before
            else ""
        )
        return Cell(quantity(value, key), share)

    def quality(name: str) -> Cell:
        value, dense = metrics.get(name), v.dense if v else None
        lost = quantity(100 * (value - dense), "points") if value is not None and dense is not None else ""
        return Cell(metric_text(v, value), f"{lost} points" if lost and name != "dense-fp32" else "")

    def row(title: str, note: str, cells: list[Cell]) -> Row | None:
        return Row(title, tuple(cells), note) if any(c.text != MISSING for c in cells) else None

    rows = [
        row("Latency", "median", [timed(n) for n in names]),
        row("Against the reference", "paired", [paired(n) for n in names]),
        row(
            "95th percentile",
            "",
            [Cell(quantity(timings[n].p95_ms if n in timings else None, "ms")) for n in names],
        ),
        row("Against fp32", "the same network", [_beside_twin(files.get(n)) for n in names]),
        row("Size of the file", "", [Cell(quantity(sizes.get(n), "bytes")) for n in names]),
        row(v.metric_name.capitalize() if v else "Metric", "", [quality(n) for n in names]),
        row("Parameters", "", [counted(n, "params") for n in names]),
        row("Multiply-adds", "one sample", [counted(n, "macs") for n in names]),
        row("Largest error", "against its model", [Cell(error_text(errors.get(n))) for n in names]),
    ]
    final = final_artifact(run)
    lead = (
        f"The reference is {in_text(reference)}, the better of the dense variants in the target's runtime."
        if reference
        else ""
    )
    return Table(
        lead,
        tuple(artifact_label(n) for n in names),
        tuple(r for r in rows if r is not None),
        marked=names.index(final) if final in names else -1,
    )


def _beside_twin(artifact: Artifact | None) -> Cell:
    if artifact is None or artifact.fp32_ratio is None:
        return Cell(MISSING)
    slower = artifact.fp32_ratio > 1.0
    return Cell(quantity(artifact.fp32_ratio, "x"), "slower" if slower else "", "over" if slower else "")


def rivals(run: Run) -> Table | None:
    """The dense model in every runtime that the run chose from."""
    if run.verdict is None or not run.verdict.rivals:
        return None
    rows = tuple(
        Row(
            f"{r.runtime} {r.dtype}",
            (
                Cell(quantity(r.latency_ms, "ms")),
                Cell(quantity(r.ratio, "x"), interval(r.bounds, "x")),
                Cell(quantity(r.size_bytes, "bytes")),
            ),
            "the fastest: this run uses its runtime" if r.chosen else r.obstacle,
        )
        for r in run.verdict.rivals
    )
    first = run.verdict.rivals[0]
    lead = f"Measured in turn before anything was cut; ratios are to {first.runtime} {first.dtype}."
    return Table(lead, ("Latency", "Ratio", "Size"), rows)


def gains(run: Run) -> Table | None:
    """The final artifact against every dense variant."""
    if run.verdict is None or not run.verdict.gains:
        return None
    rows = tuple(
        Row(
            f"against {in_text(g.against)}",
            (
                Cell(times(g.latency_ratio, "faster", "slower"), _inverse(g.bounds)),
                Cell(times(g.size_ratio, "smaller", "larger")),
            ),
            "the reference" if g.against == run.verdict.reference else "",
        )
        for g in run.verdict.gains
    )
    return Table("", ("Speed", "Size"), rows)


def _inverse(bounds: tuple[float, float] | None) -> str:
    if bounds is None or min(bounds) <= 0:
        return ""
    return interval((1 / bounds[1], 1 / bounds[0]), "x")


def sizes_of(run: Run) -> dict[str, float]:
    """The size of each variant's file, in bytes, as far as the records tell."""
    v = run.verdict
    if v is None:
        return {}
    sizes = {name: a.size_bytes for name, a in _files(run).items() if a.size_bytes is not None}
    if v.reference_bytes is not None:
        sizes[v.reference] = v.reference_bytes
    final = sizes.get(final_artifact(run))
    for gain in v.gains:
        if final and gain.size_ratio and gain.against not in sizes:
            sizes[gain.against] = final / gain.size_ratio
    return sizes


def _files(run: Run) -> dict[str, Artifact]:
    """The files of the verdict by variant: by their own name, or by that of the timing of the file."""
    artifacts = run.verdict.artifacts if run.verdict else ()
    by_file = {a.path.rsplit("/", 1)[-1]: a for a in artifacts}
    found = {t.artifact: by_file.get(t.path.rsplit("/", 1)[-1]) for t in run.timings if t.path}
    found |= {a.name: a for a in artifacts if a.name}
    return {name: artifact for name, artifact in found.items() if artifact is not None}


def _metrics(run: Run) -> dict[str, float | None]:
    v = run.verdict
    if v is None:
        return {}
    alone = next((b.metric for b in v.baselines if _is_dense_int8(b.name)), None)
    known = {"dense-fp32": v.dense, "dense-int8": alone, "pruned-fp32": v.pruned, "pruned-int8": v.quantized}
    return {name: a.metric for name, a in _files(run).items()} | {
        k: m for k, m in known.items() if m is not None
    }


def _is_dense_int8(name: str) -> bool:
    return "int8" in name.lower() and "random" not in name.lower()


def error_text(value: float | None) -> str:
    """A relative error with two digits, a power of ten where it is tiny."""
    if value is None:
        return MISSING
    return digits(value, 2)
