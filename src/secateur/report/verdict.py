"""The verdict first: in a word, in a sentence, in a few large numbers, then budget by budget."""

from __future__ import annotations

from collections.abc import Iterable

from secateur.report import charts
from secateur.report.charts import Svg
from secateur.report.figures import MISSING, interval, points, quantity, times
from secateur.report.final import final_artifact, final_metric, final_timings, metric_text
from secateur.report.parts import Cell, Head, Row, Table
from secateur.report.records import Budget, Run, Verdict
from secateur.report.variants import sizes_of

_BUDGETS = {
    "latency": "Latency",
    "p95": "Latency, 95th percentile",
    "size": "Size of the file",
    "memory": "Peak memory",
    "params": "Parameters",
    "macs": "Multiply-adds",
    "sparsity": "Zeros among the weights",
    "drop": "Loss of quality",
    "class_drop": "Loss of the worst class",
}
_VERDICTS = {
    "met": ("ok", "✓", "Budget met"),
    "missed": ("warn", "!", "Budget missed"),
    "infeasible": ("bad", "✕", "Infeasible"),
}


def head(run: Run) -> Head:
    """The verdict of a run, or how far it got."""
    v = run.verdict
    if v is None:
        got = f"{len(run.rounds)} records of rounds are there" if run.rounds else "no round is finished"
        return Head(
            "none",
            "…",
            "Not finished",
            f"This run has no verdict yet: {got}. Run the same command again on this folder and it resumes.",
            (),
            (),
        )
    tone, symbol, word = _VERDICTS.get(v.verdict, ("none", "?", v.verdict))
    return Head(tone, symbol, word, v.headline, tuple(_facts(run, v)), v.reasons)


def _facts(run: Run, v: Verdict) -> Iterable[Row]:
    gain = next((g for g in v.gains if g.against == v.reference), v.gains[0] if v.gains else None)
    final = {t.artifact: t for t in final_timings(run)}.get(final_artifact(run))
    if gain is not None:
        if gain.latency_ratio is not None:
            now = f"{quantity(final.median_ms, 'ms')}, was {quantity(v.reference_ms, 'ms')}" if final else ""
            yield Row("Speed", (Cell(times(gain.latency_ratio, "faster", "slower"), now),))
        if gain.size_ratio is not None:
            size = sizes_of(run).get(final_artifact(run))
            now = f"{quantity(size, 'bytes')}, was {quantity(v.reference_bytes, 'bytes')}" if size else ""
            yield Row("Size", (Cell(times(gain.size_ratio, "smaller", "larger"), now),))
    metric = final_metric(run)
    if metric is not None and v.dense is not None:
        note = f"{metric_text(v, metric)}, was {metric_text(v, v.dense)}"
        yield Row(
            v.metric_name.capitalize(),
            (Cell(f"{quantity(100 * (metric - v.dense), 'points')} points", note),),
        )


def budgets(run: Run) -> Table | None:
    """Each promise with what was reached and the chart that compares them."""
    if run.verdict is None or not run.verdict.budgets:
        return None
    feasible = run.verdict.verdict != "infeasible"
    rows = tuple(_budget_row(b, feasible) for b in run.verdict.budgets)
    kept = sum(b.met is True for b in run.verdict.budgets)
    lead = f"{kept} of {len(rows)} kept. All of them must hold." if len(rows) > 1 else ""
    return Table(lead, ("Asked", "Achieved", "Dense", "Kept?"), rows)


def _budget_row(b: Budget, feasible: bool) -> Row:
    at_least = b.kind == "sparsity"
    unit = "share" if at_least else b.unit
    asked = f"{'at least' if at_least else 'at most'} {_asked(b)}"
    sure = interval(b.bounds, unit)
    ratio = (
        f"{quantity(b.achieved / b.dense, 'x')} of dense"
        if b.dense and b.achieved is not None and not at_least
        else ""
    )
    note = "; ".join(
        part for part in (ratio, f"between {sure.replace(' to ', ' and ')}" if sure else "") if part
    )
    achieved = quantity(b.achieved, unit)
    if "drop" in b.kind and b.achieved is not None:
        achieved = (
            f"{points(b.achieved)} {'lost' if b.achieved > 0 else 'gained'}" if b.achieved else "nothing lost"
        )
    if not feasible and b.met is False:
        achieved, lost = f"nearest possible: {achieved}", "✕ out of reach"
    else:
        lost = "✕ not kept"
    kept = Cell("–") if b.met is None else Cell("✓ kept", style="ok") if b.met else Cell(lost, style="over")
    cells = (
        Cell(asked),
        Cell(achieved, note),
        Cell(quantity(b.dense, unit) if "drop" not in b.kind else MISSING),
        kept,
    )
    return Row(_BUDGETS.get(b.kind, b.kind), cells, chart=_bullet(b))


def _asked(b: Budget) -> str:
    if b.asked.lower().endswith("x") and b.limit is not None:
        return f"{b.asked[:-1]}× dense, {quantity(b.limit, b.unit)}"
    if "drop" in b.kind and b.limit is not None:
        return points(b.limit)
    return quantity(b.limit, "share" if b.kind == "sparsity" else b.unit) if b.limit is not None else b.asked


def _bullet(b: Budget) -> Svg | None:
    if b.limit is None or b.achieved is None:
        return None
    values = [0.0, b.limit, b.achieved, *(b.bounds or ())]
    reach = max([*values, 1.25 * b.limit, *([b.dense] if b.dense and b.dense < 2.5 * max(values) else [])])
    scale = charts.Scale(min(values), reach)
    return charts.bullet(b.achieved, b.limit, scale, b.bounds, b.met is not False)
