"""What a run knew before it cut anything: whether pruning pays, what it would take, whether blocks should go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from secateur.report.figures import quantity
from secateur.report.parts import Cell, Row, Table
from secateur.report.records import Run


def before(run: Run) -> Table | None:
    """Suitability, forecast and depth from ``analysis.json``; None where none of them was measured."""
    record = run.analysis.record if run.analysis is not None else {}
    rows = [
        *_worth(_of(record, "suitability")),
        *_effort(_of(record, "forecast")),
        *_depth(_of(record, "depth")),
    ]
    words = str(_of(record, "suitability").get("words", ""))
    return Table(words[:1].upper() + words[1:], ("",), tuple(rows)) if rows else None


def _of(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = record.get(key)
    return found if isinstance(found, Mapping) else {}


def _worth(found: Mapping[str, Any]) -> Iterable[Row]:
    for one in found.get("dtypes") or ():
        parts = ", ".join(
            f"{quantity(one.get(key), 'share')} {name}"
            for key, name in (
                ("fixed", "is changed by no width"),
                ("linear", "by one width"),
                ("products", "by two"),
            )
        )
        yield Row(f"Where the time goes in {one.get('dtype')}", (Cell(parts),))
        text = (
            f"{quantity(one.get('half'), 'share')} of the latency with half of the units, "
            f"{quantity(one.get('least'), 'share')} with the fewest"
        )
        note = f"predictions were off by {quantity(one.get('error'), 'share')} at the median"
        yield Row("What pruning can reach", (Cell(text, note),))


def _effort(found: Mapping[str, Any]) -> Iterable[Row]:
    if not found:
        return
    hours = found.get("hours")
    took = ""
    if isinstance(hours, (int, float)) and hours:
        took = f", about {60 * hours:.0f} minutes" if 60 * hours >= 1.5 else ", about a minute"
    yield Row(
        "What it would take", (Cell(f"{found.get('rounds')} rounds, {found.get('epochs')} epochs{took}"),)
    )
    metric = found.get("metric_untrained")
    if isinstance(metric, (int, float)):
        text = f"{metric:.4f} on held-out data"
        yield Row("Cut to this degree at once, not trained", (Cell(text),))


def _depth(found: Mapping[str, Any]) -> Iterable[Row]:
    tried = [row for row in found.get("tried") or () if row.get("loss") is not None]
    if len(tried) > 1:
        best = min(tried, key=lambda row: row["loss"])
        text = ", ".join(f"{row['loss']:.3f} without {len(row['removed'])}" for row in tried)
        names = ", ".join(best["removed"]) or "none"
        yield Row(
            "Blocks that go whole",
            (Cell(names, f"loss of an untrained cut to the same latency: {text} blocks"),),
        )
