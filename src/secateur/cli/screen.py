"""What commands print: tables and figures in one style. Piped output is wide, so that nothing is cut off."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from secateur.errors import RunFolderError
from secateur.files import whole_file

PIPED_WIDTH = 160


def screen() -> Console:
    """The console on standard output; made anew each time, since tests and pipes replace the stream."""
    console = Console()
    return console if console.is_terminal else Console(width=PIPED_WIDTH)


def line(text: str, style: str = "") -> None:
    """A line of plain text, never wrapped, so that scripts can read it."""
    screen().print(Text(text, style=style), soft_wrap=True)


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], right: Sequence[str] = ()
) -> None:
    """A table; the columns named in ``right`` are aligned to the right, and text is never read as markup."""
    drawn = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    for column in columns:
        drawn.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    screen().print(drawn)


def count(value: float) -> str:
    """A number of parameters or multiply-adds, to three digits."""
    for factor, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= factor:
            return f"{value / (1e3 if suffix == 'k' else factor):.3g} {suffix}"
    return f"{value:,.0f}"


def share(value: float) -> str:
    """A fraction in percent."""
    return f"{100 * value:.1f} %"


def several(number: int, one: str, many: str | None = None) -> str:
    """``1 unit``, ``2 units``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def write_json(path: Path, data: Any) -> None:
    """A record, whole or not at all.

    Raises:
        RunFolderError: the path is a folder, or cannot be written.
    """
    check_file(path, "--json")
    write_text(path, json.dumps(data, indent=1, allow_nan=False) + "\n")


def check_file(path: Path | None, option: str) -> None:
    """Refuses a folder where a file is to be written, before anything is done.

    Raises:
        RunFolderError: it is a folder.
    """
    if path is not None and path.is_dir():
        raise RunFolderError(f"{path} is a folder; give the name of a file for {option}")


def write_text(path: Path, text: str) -> None:
    """A text file, whole or not at all.

    Raises:
        RunFolderError: it cannot be written.
    """
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
