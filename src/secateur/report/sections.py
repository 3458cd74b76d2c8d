"""The sections under the verdict: rounds, widths, latency, classes, baselines, locks and the environment."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from secateur.report import charts
from secateur.report.charts import Guide, Scale, Series
from secateur.report.figures import MISSING, interval, quantity, times
from secateur.report.final import (
    artifact_label,
    counts,
    final_artifact,
    final_metric,
    final_timings,
    in_text,
    metric_text,
)
from secateur.report.parts import Cell, Chart, Row, Table
from secateur.report.records import Baseline, Layer, Run
from secateur.report.variants import sizes_of

_SHOWN = 40
_WORST = 20


def rounds(run: Run) -> tuple[Table, tuple[Chart, ...]] | None:
    """The curve by round: quality before and after recovery, and latency, against the fraction cut."""
    if not run.rounds:
        return None
    v = run.verdict
    solved = any(r.reconstructed is not None for r in run.rounds)

    def cells() -> Iterable[Row]:
        for r in run.rounds:
            yield Row(
                "dense" if r.number == 0 else str(r.number),
                (
                    Cell(quantity(r.fraction_cut, "share")),
                    Cell(quantity(r.params, "params")),
                    Cell(quantity(r.macs, "macs")),
                    Cell(metric_text(v, r.before)),
                    *([Cell(metric_text(v, r.reconstructed))] if solved else []),
                    Cell(metric_text(v, r.after)),
                    Cell(quantity(r.latency_ms, "ms")),
                    Cell(quantity(r.predicted_ms, "ms")),
                    Cell(quantity(r.seconds, "s")),
                ),
            )

    quality = ("Just cut", "Reconstructed", "Recovered") if solved else ("Just cut", "Recovered")
    columns = ("Cut", "Parameters", "MACs", *quality, "Latency", "Predicted", "Time")
    table = Table(_rounds_lead(run), columns, tuple(cells()))
    return table, tuple(chart for chart in (_quality_chart(run), _latency_chart(run)) if chart is not None)


def _rounds_lead(run: Run) -> str:
    v, cut = run.verdict, [r for r in run.rounds if r.number > 0]
    if not cut:
        return "Only the dense model is recorded so far."
    parts = []
    for key, name in (("params", "parameters"), ("macs", "multiply-adds")):
        before, after = counts(run, key)
        if before and after is not None:
            parts.append(f"{quantity(1 - after / before, 'share')} of the {name}")
    removed = " and ".join(parts) or "a part of the model"
    lead = f"{len(cut)} round{'s' if len(cut) > 1 else ''} removed {removed}."
    lows = [r.before for r in cut if r.before is not None]
    if lows and cut[-1].after is not None:
        name = v.metric_name if v else "the metric"
        lead += (
            f" Straight after a cut, {name} fell to {metric_text(v, min(lows))}"
            f" at the lowest; after recovery it ended at {metric_text(v, cut[-1].after)}."
        )
    return lead


def _quality_chart(run: Run) -> Chart | None:
    after = tuple(
        (r.fraction_cut, r.after) for r in run.rounds if r.fraction_cut is not None and r.after is not None
    )
    before = tuple(
        (r.fraction_cut, r.before)
        for r in run.rounds
        if r.number > 0 and r.fraction_cut is not None and r.before is not None
    )
    if len(after) < 2:
        return None
    v, guides = run.verdict, []
    drop = next((b.limit for b in v.budgets if b.kind == "drop"), None) if v else None
    if v and v.dense is not None and drop is not None:
        guides.append(
            Guide(v.dense - drop / 100, f"lowest allowed, {metric_text(v, v.dense - drop / 100)}", "floor")
        )
    series = [
        Series("straight after the cut", before, "raw", "hollow"),
        Series("after recovery", after, "kept"),
    ]
    series = [s for s in series if s.points]
    ends = dict(after)
    links = [((x, y), (x, ends[x])) for x, y in before if x in ends]
    name = v.metric_name.capitalize() if v else "Metric"
    title = f"{name} against the fraction cut"
    drawn = charts.line_chart(
        series, title, _percent, _metric_axis(run), guides, from_zero=False, links=links
    )
    return Chart(title, drawn, tuple((charts.legend_mark(s), s.name) for s in series))


def _latency_chart(run: Run) -> Chart | None:
    def line(key: str) -> tuple[tuple[float, float], ...]:
        pairs = ((r.fraction_cut, getattr(r, key)) for r in run.rounds)
        return tuple((x, y) for x, y in pairs if x is not None and y is not None)

    series = [
        Series("measured", line("latency_ms"), "kept"),
        Series("predicted", line("predicted_ms"), "raw", "hollow"),
    ]
    series = [s for s in series if len(s.points) > 1]
    if not series:
        return None
    limit = _latency_limit(run)
    guides = [Guide(limit, f"the budget, {quantity(limit, 'ms')}", "floor")] if limit is not None else []
    title = "Latency against the fraction cut"
    drawn = charts.line_chart(series, title, _percent, _ms, guides, from_zero=True)
    return Chart(title, drawn, tuple((charts.legend_mark(s), s.name) for s in series))


def _latency_limit(run: Run) -> float | None:
    return next((b.limit for b in run.verdict.budgets if b.kind == "latency"), None) if run.verdict else None


def _percent(x: float) -> str:
    return f"{100 * x:.0f} %"


def _ms(x: float) -> str:
    return f"{x:g} ms"


def _signed(x: float) -> str:
    return f"{x:+g}".replace("-", "−") if x else "0"


def _metric_axis(run: Run) -> Callable[[float], str]:
    percent = metric_text(run.verdict, 0.5).endswith("%")
    return (lambda y: f"{100 * y:.0f} %") if percent else (lambda y: f"{y:.2f}")


def widths(run: Run) -> Table | None:
    """Units by layer before and after, in the order of the network."""
    layers = [layer for layer in run.layers if layer.units is not None]
    if not layers:
        return None
    largest = max((layer.units[0] for layer in layers if layer.units), default=1.0)
    shares = any(layer.latency_share is not None for layer in layers)
    rows = [_width_row(layer, largest, shares) for layer in layers]
    narrower = [layer for layer in layers if layer.units and layer.units[1] < layer.units[0]]
    lead = f"{len(narrower)} of {len(layers)} layers became narrower."
    if narrower:
        most = min(narrower, key=lambda layer: layer.units[1] / layer.units[0] if layer.units else 1.0)
        assert most.units is not None
        before, after = (quantity(units, "count") for units in most.units)
        lead += f" {most.name} lost most: {before} units before, {after} now."
    columns = ("Units", "Parameters left", *(("Share of latency",) if shares else ()))
    return Table(lead, columns, tuple(rows[:_SHOWN]), tuple(rows[_SHOWN:]))


def _width_row(layer: Layer, largest: float, shares: bool) -> Row:
    before, after = layer.units or (0.0, 0.0)
    now = quantity(after, "count")
    text = now if after == before else f"{quantity(before, 'count')} → {now}"
    left = layer.params[1] / layer.params[0] if layer.params and layer.params[0] else None
    cells = [Cell(text), Cell(quantity(left, "share"))]
    if shares:
        cells.append(Cell(quantity(layer.latency_share, "share")))
    return Row(layer.name, tuple(cells), layer.operator, charts.bars(before, after, largest))


def latency(run: Run) -> Table | None:
    """A dot and an interval for every final measurement, on one scale."""
    timings = [t for t in final_timings(run) if t.median_ms is not None]
    if not timings:
        return None
    limit = _latency_limit(run)
    ends = [x for t in timings for x in (t.median_ms, t.p95_ms, *(t.bounds or ())) if x is not None]
    scale = Scale(0.0, 1.04 * max([*ends, limit or 0.0]))
    marks = charts.ticks(0.0, scale.high, 4)
    final = final_artifact(run)
    rows = tuple(
        Row(
            artifact_label(t.artifact),
            (Cell(quantity(t.median_ms, "ms"), interval(t.bounds, "ms")),),
            "the machine was busy" if t.loaded else "",
            charts.dot_interval(
                t.median_ms or 0.0,
                t.bounds,
                scale,
                "final" if t.artifact == final else "plain",
                t.p95_ms,
                limit,
                marks,
            ),
            "final" if t.artifact == final else "",
        )
        for t in timings
    )
    first = timings[0]
    facts = [
        f"{first.runtime}" if first.runtime else "",
        f"batch of {quantity(first.batch, 'count')}" if first.batch else "",
        f"{quantity(first.threads, 'count')} thread{'s' if first.threads != 1 else ''}"
        if first.threads
        else "",
        f"{quantity(first.samples, 'count')} runs each, in turn" if first.samples else "",
    ]
    lead = f"Measured in {', '.join(f for f in facts if f)}." if any(facts) else ""
    axis = charts.axis(scale, marks, _ms)
    return Table(lead, ("Median",), rows, axis=axis)


def timings(run: Run) -> Table | None:
    """Every timing of the run, folded away."""
    if not run.timings:
        return None
    rows = tuple(
        Row(
            artifact_label(t.artifact),
            (
                Cell(t.phase),
                Cell(quantity(t.median_ms, "ms"), interval(t.bounds, "ms")),
                Cell(quantity(t.p95_ms, "ms")),
                Cell(quantity(t.ratio, "x"), interval(t.ratio_bounds, "x")),
                Cell(quantity(t.predicted_ms, "ms")),
                Cell(quantity(t.samples, "count")),
                Cell("busy" if t.loaded else ""),
            ),
        )
        for t in run.timings
    )
    return Table("", ("Phase", "Median", "p95", "Ratio", "Predicted", "Runs", "Machine"), rows)


def classes(run: Run) -> Table | None:
    """Quality class by class, worst first, with the interval of the difference."""
    v = run.verdict
    shown = [c for c in v.classes if c.delta is not None] if v else []
    if not v or not shown:
        return None
    ends = [x for c in shown for x in (c.delta, *(c.bounds or ())) if x is not None]
    pad = 0.05 * ((max([*ends, 0.0]) - min([*ends, 0.0])) or 1.0)
    scale = Scale(min([*ends, 0.0]) - pad, max([*ends, 0.0]) + pad)
    marks = charts.ticks(scale.low, scale.high, 4)
    rows = []
    for c in shown:
        clearly = c.bounds is not None and c.bounds[1] < 0
        cells = (
            Cell(quantity(c.delta, "points"), interval(c.bounds, "points")),
            Cell(metric_text(v, c.dense)),
            Cell(metric_text(v, c.final)),
        )
        drawn = charts.dot_interval(
            c.delta or 0.0, c.bounds, scale, "over" if clearly else "final", zero=0.0, marks=marks
        )
        rows.append(Row(c.name, cells, "clearly worse" if clearly else "", drawn, "over" if clearly else ""))
    worse = sum(row.style == "over" for row in rows)
    worst = shown[0]
    lead = (
        f"Worst: {worst.name}, {quantity(worst.delta, 'points')} points."
        if (worst.delta or 0.0) < 0
        else "No class lost anything."
    )
    if any(c.bounds for c in shown):
        lead += (
            " No class fell by more than its interval leaves to chance."
            if not worse
            else f" {worse} of {len(rows)} classes fell by more than chance explains."
        )
    axis = charts.axis(scale, marks, _signed)
    kept = tuple(rows[:_WORST]), tuple(rows[_WORST:])
    return Table(lead, ("Points", "Dense", "Final"), *kept, axis=axis)


def baselines(run: Run) -> Table | None:
    """What simpler means would have given, the result itself first."""
    v = run.verdict
    if not v or not v.baselines:
        return None
    gain = next((g for g in v.gains if g.against == v.reference), None)
    final = {t.artifact: t for t in final_timings(run)}.get(final_artifact(run))
    size = sizes_of(run).get(final_artifact(run))
    own = Baseline(
        "This run",
        artifact_label(final_artifact(run)),
        final.median_ms if final else None,
        gain.latency_ratio if gain else None,
        gain.bounds if gain else None,
        size,
        final_metric(run),
        True,
    )

    def row(b: Baseline, style: str = "") -> Row:
        lost = 100 * (b.metric - v.dense) if v and b.metric is not None and v.dense is not None else None
        cells = (
            Cell(metric_text(v, b.metric), f"{quantity(lost, 'points')} points" if lost is not None else ""),
            Cell(
                times(b.latency_ratio, "faster", "slower"), quantity(b.latency_ms, "ms").replace(MISSING, "")
            ),
            Cell(quantity(b.size_bytes, "bytes")),
            Cell("yes" if b.training else "no"),
        )
        return Row(b.name, cells, b.what, style=style)

    columns = (v.metric_name.capitalize(), "Latency", "Size", "Training?")
    rows = (row(own, "final"), *(row(b) for b in v.baselines))
    against = f" Speed is against {in_text(v.reference)}." if v.reference else ""
    return Table(f"Simpler means, on the same machine and data.{against}", columns, rows)


def locks(run: Run) -> Table | None:
    """What could not be pruned, gathered by reason, with the parameters that each reason holds."""
    a = run.analysis
    if a is None:
        return None
    lead = ""
    if a.prunable_share is not None:
        lead = f"{quantity(a.prunable_share, 'share')} of the parameters"
        lead += (
            f" stand in {a.groups} group{'s' if a.groups != 1 else ''} that can be pruned."
            if a.groups
            else " can be pruned."
        )
    if not a.locks:
        lead += " Nothing is locked."
    rows = tuple(
        Row(
            lock.reason or "no reason recorded",
            (
                Cell(
                    quantity(lock.params, "params"),
                    quantity(lock.params / a.params, "share") if a.params else "",
                ),
                Cell(quantity(len(lock.axes), "count")),
            ),
            lock.remedy,
            items=lock.axes,
        )
        for lock in a.locks
    )
    return Table(lead.strip(), ("Parameters held", "Axes"), rows)


def environment(run: Run) -> tuple[tuple[str, str], ...]:
    """The environment as pairs, nested ones joined."""
    return tuple((key.replace("_", " "), _flat(value)) for key, value in run.environment.items())


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_flat(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_flat(v) for v in value)
    return MISSING if value is None else str(value)
