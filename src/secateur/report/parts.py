"""The building blocks of the page: cells, rows, tables and charts, all text chosen, nothing laid out.

The modules beside this one turn a run into these; the template only lays them out. A part whose records are
missing is None, and the page says so in its place.
"""

from __future__ import annotations

from dataclasses import dataclass

from secateur.report.charts import Svg


@dataclass(frozen=True)
class Cell:
    """A number, a remark under it, and a class."""

    text: str
    note: str = ""
    style: str = ""


@dataclass(frozen=True)
class Row:
    """A row of a table: its heading, a remark under it, cells, a chart, a class, and a list that unfolds."""

    head: str
    cells: tuple[Cell, ...] = ()
    note: str = ""
    chart: Svg | None = None
    style: str = ""
    items: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table with the sentence that introduces it; ``rest`` are rows that are folded away."""

    lead: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    rest: tuple[Row, ...] = ()
    axis: Svg | None = None
    marked: int = -1


@dataclass(frozen=True)
class Chart:
    """A line chart, with the samples for its legend."""

    title: str
    svg: Svg
    legend: tuple[tuple[Svg, str], ...]


@dataclass(frozen=True)
class Head:
    """The verdict: in a word, in a sentence, and in a few large numbers."""

    tone: str
    symbol: str
    word: str
    headline: str
    facts: tuple[Row, ...]
    reasons: tuple[str, ...]
