"""The table of ``criterion: auto``: what each criterion keeps at the cost that was asked, without training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secateur.report.figures import MISSING, digits, interval, quantity
from secateur.report.final import named_metric
from secateur.report.parts import Cell, Row, Table


def criteria(ranking: Mapping[str, Any] | None, metric: str) -> Table | None:
    """The criteria, the best first; None where the choice was not left open.

    Args:
        ranking: as ``analysis.json`` has it under ``criterion``.
        metric: its name.
    """
    rows = ranking.get("ranking") if isinstance(ranking, Mapping) else None
    if ranking is None or not rows:
        return None
    lead = (
        f"Every criterion's plan for the same cost, cut without training and tried on "
        f"{quantity(ranking['samples'], 'count')} held-out samples. {_sentence(ranking['words'])}"
    )
    columns = ("Loss", "Above the best", metric.capitalize(), "Parameters", "Multiply-adds", "")
    found = tuple(_row(row, ranking["used"], metric) for row in sorted(rows, key=lambda r: r["place"]))
    return Table(lead, columns, found)


def _row(row: Mapping[str, Any], used: str, metric: str) -> Row:
    mine = row["criterion"] == used
    best = row["place"] == 1 and not row["control"]
    standing = "used" if mine else "control" if row["control"] else ""
    if row["within_noise"] and not mine:
        standing = ", ".join(part for part in (standing, "within noise") if part)
    cells = (
        Cell(digits(row["loss"])),
        Cell(MISSING) if best else Cell(digits(row["loss_above_best"]), interval(row["interval"])),
        Cell(named_metric(metric, row["metric"])),
        Cell(quantity(row["params"], "params")),
        Cell(quantity(row["macs"], "macs")),
        Cell(standing),
    )
    return Row(row["criterion"], cells, style="final" if mine else "")


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."
