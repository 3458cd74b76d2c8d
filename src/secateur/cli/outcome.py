"""What a run ends with on the screen: the verdict in words, budget by budget, and where the page is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from secateur.cli.screen import count, line, table

if TYPE_CHECKING:
    from secateur.pipeline import Run

STYLES = {"met": "bold green", "missed": "bold yellow"}


def show_run(run: Run, quiet: bool = False) -> None:
    """Prints the verdict of a finished run; only its headline if ``quiet``."""
    style = STYLES.get(run.verdict, "bold")
    line(run.headline, style=style)
    if quiet:
        return
    verdict = run.record
    rows = [
        (
            b.get("kind"),
            b.get("asked"),
            quantity(b.get("dense"), b.get("unit")),
            quantity(b.get("achieved"), b.get("unit")),
            _interval(b.get("interval")),
            {True: "yes", False: "no"}.get(b.get("met"), "not measured"),
        )
        for b in verdict.get("budgets", ())
    ]
    if rows:
        right = ("asked", "dense", "achieved")
        table("", ("budget", "asked", "dense", "achieved", "interval", "met"), rows, right=right)
    for reason in verdict.get("reasons", ()):
        line(f"  {reason}")
    line(f"report: {run.folder / 'report.html'}")
    line(f"verdict: {run.verdict}", style=style)


def quantity(value: Any, unit: str | None) -> str:
    """A number with its unit, large ones shortened."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return ""
    if unit in ("bytes", "B"):
        return f"{value / 1e6:.3g} MB"
    if unit in ("params", "macs", "", None):
        return count(value) if abs(value) >= 1e4 else f"{value:.4g}"
    return f"{value:.3g} {unit}"


def _interval(value: Any) -> str:
    if not isinstance(value, list) or len(value) != 2 or None in value:
        return ""
    return f"{value[0]:.3g} to {value[1]:.3g}"
