"""The page of a sweep: the family as a plot and a table, and how to go on from one of its plans."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from secateur.files import whole_file
from secateur.report import charts
from secateur.report.charts import Series
from secateur.report.criteria import criteria
from secateur.report.engine import rendered
from secateur.report.figures import MISSING, interval, quantity
from secateur.report.final import in_text, named_metric
from secateur.report.parts import Cell, Chart, Row, Table

KINDS = {"latency": "latency", "size": "size of the file", "params": "parameters", "macs": "multiply-adds"}
COSTS = {
    "predicted_ratio": "predicted latency over the dense reference's",
    "measured_ratio": "measured latency over the dense reference's",
    "macs": "multiply-adds over the dense model's",
}


def write_sweep(record: Mapping[str, Any], out: Path) -> Path:
    """Writes the page of a sweep, self-contained.

    Args:
        record: the content of ``sweep.json``.
        out: the file.

    Raises:
        RunFolderError: it cannot be written.
    """
    page = rendered(
        "sweep.html",
        title=f"{record['model']}: {len(record['points'])} budgets of {KINDS[record['kind']]}",
        kind=KINDS[record["kind"]],
        record=record,
        headline=headline(record),
        facts=_facts(record),
        chart=_chart(record),
        points=_table(record),
        criteria=criteria(record["ranking"], record["metric"]["name"]) if record["ranking"] else None,
        setup=_setup(record),
        picked=_picked(record),
    )
    with whole_file(out) as path:
        path.write_text(page, encoding="utf-8")
    return out


def headline(record: Mapping[str, Any]) -> str:
    """The outcome in a sentence."""
    points = record["points"]
    front, infeasible = (sum(p[key] for p in points) for key in ("on_front", "feasible"))
    infeasible = len(points) - infeasible
    beaten = len(points) - front - infeasible
    words = [f"{front} of {len(points)} budgets give a plan that no other beats"]
    if beaten:
        words.append(f"{beaten} {'is' if beaten == 1 else 'are'} beaten or the same as another")
    if infeasible:
        words.append(f"{infeasible} cannot be met")
    return f"{', '.join(words)}."


def standing(point: Mapping[str, Any]) -> str:
    """What a point is worth, in a few words."""
    if not point["feasible"]:
        return str(point["reason"])
    if point["same_as"] is not None:
        return f"the same plan as {point['same_as']}"
    return "on the front" if point["dominated_by"] is None else f"beaten by {point['dominated_by']}"


def _facts(record: Mapping[str, Any]) -> tuple[Row, ...]:
    dense, metric = record["dense"], record["metric"]
    facts = [
        Row("Dense latency", (Cell(quantity(dense["latency_ms"], "ms"), in_text(dense["artifact"])),)),
        Row("Dense size", (Cell(quantity(dense["size_bytes"], "bytes")),)),
        Row("Parameters", (Cell(quantity(dense["params"], "params")),)),
    ]
    if metric is not None:
        value = named_metric(metric["name"], dense["metric"])
        facts.append(Row(metric["name"].capitalize(), (Cell(value, "on held-out data"),)))
    return tuple(facts)


def _cost(record: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], float]:
    axis, macs = record["front"]["cost"], record["dense"]["macs"]
    if axis == "measured_ratio":
        return lambda p: float(p["measured"]["ratio"])
    return lambda p: float(p["macs"]) / macs if axis == "macs" else float(p["predicted_ratio"])


def _quality_name(record: Mapping[str, Any]) -> str:
    metric = record["metric"]
    return "Saliency kept" if metric is None else f"{metric['name'].capitalize()}, untrained"


def _chart(record: Mapping[str, Any]) -> Chart | None:
    """Quality against the cost: the front as a line, what is beaten beside it, measurements where there are any."""
    there = [p for p in record["points"] if p["feasible"]]
    if not there:
        return None
    cost, key = _cost(record), record["front"]["quality"]
    dense = (1.0, float(record["dense"]["metric"]) if record["metric"] is not None else 1.0)

    def at(p: Mapping[str, Any]) -> tuple[float, float]:
        return cost(p), float(p[key])

    front = [at(p) for p in there if p["on_front"]]
    beaten = [at(p) for p in there if not p["on_front"]]
    timed = [p for p in there if p["measured"] is not None and record["front"]["cost"] == "predicted_ratio"]
    moved = [(p["measured"]["ratio"], float(p[key])) for p in timed]
    series = [
        Series("the front", tuple(sorted(front)), "kept"),
        Series("beaten by another", tuple(beaten), "beaten", "hollow", False),
        Series("measured", tuple(moved), "measured", "square", False),
        Series("dense", (dense,), "whole", "dot", False),
    ]
    series = [s for s in series if s.points]
    percent = named_metric(record["metric"]["name"], 0.5).endswith("%") if record["metric"] else True
    title = f"{_quality_name(record)}, against {COSTS[record['front']['cost']]}"
    drawn = charts.line_chart(
        series,
        title,
        lambda x: f"{x:g}×",
        (lambda y: f"{100 * y:.0f} %") if percent else (lambda y: f"{y:.2f}"),
        links=[(at(p), to) for p, to in zip(timed, moved, strict=True)],
        labels=[*((at(p), p["asked"]) for p in there if p["on_front"]), (dense, "dense")],
    )
    return Chart(title, drawn, tuple((charts.legend_mark(s), s.name) for s in series))


def _table(record: Mapping[str, Any]) -> Table:
    dense, metric = record["dense"], record["metric"]
    columns = (
        "Predicted latency",
        "Measured latency",
        "Parameters",
        "Multiply-adds",
        "Size",
        _quality_name(record),
        "",
    )
    rows = []
    for p in record["points"]:
        if not p["feasible"]:
            nothing = [Cell(MISSING)] * (len(columns) - 1)
            rows.append(Row(p["asked"], (*nothing, Cell("infeasible", style="bad")), p["reason"]))
            continue
        timed = p["measured"]
        quality = Cell(quantity(p["kept"], "share"))
        if metric is not None:
            lost = 100 * (p["metric"] - dense["metric"])
            quality = Cell(named_metric(metric["name"], p["metric"]), f"{quantity(lost, 'points')} points")
        size = Cell(f"about {quantity(p['predicted_bytes'], 'bytes')}")
        if timed is not None:
            size = Cell(quantity(timed["size_bytes"], "bytes"), "measured")
        cells = (
            Cell(quantity(p["predicted_ratio"], "x"), quantity(p["predicted_ms"], "ms").replace(MISSING, "")),
            Cell(quantity(timed["ratio"], "x"), interval(timed["ratio_interval"], "x"))
            if timed
            else Cell(MISSING),
            Cell(quantity(p["params"], "params"), quantity(p["params"] / dense["params"], "share")),
            Cell(quantity(p["macs"], "macs"), quantity(p["macs"] / max(dense["macs"], 1), "share")),
            size,
            quality,
            Cell(standing(p), style="ok" if p["on_front"] else ""),
        )
        blocks = len(p["removed"])
        note = f"without {blocks} block{'s' if blocks > 1 else ''}" if blocks else ""
        rows.append(Row(p["asked"], cells, note, style="" if p["on_front"] else "beaten"))
    lead = (
        "Quality is that of the plan as it is cut, before any recovery: it ranks plans and promises nothing."
    )
    if metric is None:
        lead = "Without data, quality is the share of the saliency that stays: it ranks plans and promises nothing."
    return Table(lead, columns, tuple(rows))


def _setup(record: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    told = record["prediction"]
    prediction = "none: the target does not tell the times of its operators"
    if told is not None:
        prediction = (
            f"off by {quantity(told['median_error'], 'share')} at the median on networks left out, "
            f"{quantity(told['p90_error'], 'share')} for nine in ten; from {told['networks']} networks"
        )
    pairs = {name: str(record[name]) for name in ("model", "target", "threads", "criterion", "seed")}
    return (*pairs.items(), ("predictions", prediction))


def _picked(record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The plan that the page takes for an example: the middle of the front."""
    front = [p for p in record["points"] if p["on_front"]]
    return front[len(front) // 2] if front else None
