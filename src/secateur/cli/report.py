"""``secateur report``: the page again, from the records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from secateur.cli.screen import screen


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.")],
    out: Annotated[
        Path | None,
        typer.Option(help="The file or folder to write; RUN/report.html, or ./report.html for several runs."),
    ] = None,
) -> None:
    """Rebuild report.html from the records of one run, or of several side by side."""
    from secateur.report import write_report

    destination = out or (runs[0] / "report.html" if len(runs) == 1 else Path("report.html"))
    screen().print(
        f"written: {write_report(runs, destination)}", soft_wrap=True, highlight=False, markup=False
    )
