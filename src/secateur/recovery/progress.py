"""What a recovery shows while it lasts: a bar with rate and time left, or a line per epoch, or nothing.

A bar on a terminal; where output goes to a file or a pipe, one line per epoch on the error stream.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from types import TracebackType
from typing import Any


class Progress:
    """A context: ``step`` after each optimiser step, ``epoch`` after each epoch."""

    def __init__(self, what: str, total: int, quiet: bool, done: int = 0) -> None:
        self.what, self.total, self.quiet, self.done = what, total, quiet, done
        self._stack = ExitStack()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        if not self.quiet and sys.stderr.isatty():
            self._bar = self._stack.enter_context(_bar()) if _rich_is_there() else None
            if self._bar is not None:
                self._task = self._bar.add_task(self.what, total=self.total, completed=self.done, note="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def step(self, loss: float) -> None:
        """One more step."""
        if self._bar is not None:
            self._bar.update(self._task, advance=1, note=f"loss {loss:.4f}")

    def epoch(self, number: int, epochs: int, loss: float, metric: float, seconds: float) -> None:
        """One more epoch."""
        line = f"{self.what}: epoch {number}/{epochs}, loss {loss:.4f}, held-out metric {metric:.4f}, {seconds:.1f} s"
        if self._bar is not None:
            self._bar.console.print(line, highlight=False)
        elif not self.quiet:
            print(line, file=sys.stderr, flush=True)


def _rich_is_there() -> bool:
    from importlib.util import find_spec

    return find_spec("rich") is not None


def _bar() -> Any:
    from rich import progress
    from rich.console import Console

    class Rate(progress.ProgressColumn):
        """Steps per second."""

        def render(self, task: Any) -> str:
            return f"{task.speed:.1f} steps/s" if task.speed else ""

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        Rate(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
        transient=True,
    )
