"""Which artifact the verdict speaks of, and its figures: timing, metric, counts before and after."""

from __future__ import annotations

from secateur.report.figures import quantity
from secateur.report.records import Run, Timing, Verdict

ORDER = {"dense-fp32": 0, "dense-int8": 1, "pruned-fp32": 2, "pruned-int8": 3}


def final_artifact(run: Run) -> str:
    """The artifact that the verdict speaks of: in the target's dtype, else the faster pruned one."""
    pruned = [t for t in final_timings(run) if t.artifact.startswith("pruned")]
    wanted = "pruned-" + (run.verdict.target.partition(":")[2] if run.verdict else "")
    if any(t.artifact == wanted for t in pruned):
        return wanted
    timed = [t for t in pruned if t.median_ms is not None]
    return min(timed, key=lambda t: t.median_ms or 0.0).artifact if timed else wanted.rstrip("-")


def final_timings(run: Run) -> list[Timing]:
    """The last timing of each artifact in the final phase, or of any phase where there is no final one."""
    final = [t for t in run.timings if t.phase == "final"] or list(run.timings)
    last = {t.artifact: t for t in final}
    return sorted(last.values(), key=lambda t: (ORDER.get(t.artifact, 9), t.artifact))


def metric_text(verdict: Verdict | None, value: float | None) -> str:
    """A metric in percent where it is an accuracy, plain otherwise."""
    return named_metric(verdict.metric_name if verdict else "", value)


def named_metric(name: str, value: float | None) -> str:
    """The same for a metric by its name."""
    return quantity(value, "share" if "acc" in name.lower() or "top" in name.lower() else "")


def final_metric(run: Run) -> float | None:
    """The metric of the final artifact."""
    v = run.verdict
    if v is None:
        return next((r.after for r in reversed(run.rounds) if r.after is not None), None)
    if v.quantized is not None and not final_artifact(run).endswith("fp32"):
        return v.quantized
    return v.pruned


def artifact_label(name: str) -> str:
    """``pruned-int8`` as people say it."""
    stage, _, dtype = name.partition("-")
    return f"{stage.capitalize()} {dtype.upper() if dtype.startswith('int') else dtype}".strip() or name


def counts(run: Run, key: str) -> tuple[float | None, float | None]:
    """Parameters or multiply-adds, dense and now: from the rounds, else from the layers or the analysis."""
    values = [getattr(r, key) for r in run.rounds if getattr(r, key) is not None]
    if values:
        return values[0], values[-1]
    pairs = [p for layer in run.layers if (p := getattr(layer, key)) is not None]
    if pairs:
        return sum(p[0] for p in pairs), sum(p[1] for p in pairs)
    return (getattr(run.analysis, key) if run.analysis else None), None


def in_text(name: str) -> str:
    """The label of an artifact inside a sentence: ``dense INT8``."""
    label = artifact_label(name)
    return label[:1].lower() + label[1:]
