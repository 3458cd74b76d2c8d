"""From run folders to one self-contained page: style, charts and text in a single file that needs no network.

The page has no script. Names in it come from users, so everything is escaped by the template engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secateur.errors import RunFolderError
from secateur.files import whole_file
from secateur.report import sections, variants, verdict
from secateur.report.before import before
from secateur.report.charts import Svg
from secateur.report.criteria import criteria
from secateur.report.engine import rendered
from secateur.report.figures import quantity, times
from secateur.report.final import final_metric, metric_text
from secateur.report.parts import Cell, Chart, Head, Row, Table
from secateur.report.picture import picture
from secateur.report.read import read_run
from secateur.report.records import Run

_MISSING = {
    "budgets": ("verdict.json", "the budgets and whether they are met"),
    "variants": ("measurements.jsonl", "latency, size and quality side by side"),
    "rounds": ("history.jsonl", "the curve by round"),
    "widths": ("layers.json", "the widths before and after"),
    "latency": ("measurements.jsonl", "latency with intervals"),
    "classes": ("verdict.json", "quality class by class, for tasks whose targets are classes"),
    "baselines": ("verdict.json", "the baselines"),
    "locks": ("analysis.json", "what was locked, and why"),
    "environment": ("environment.json", "versions, processor and seeds"),
    "recipe": ("recipe.yaml", "what was asked"),
}


@dataclass(frozen=True)
class View:
    """One run as the template takes it; a part that is None has no records."""

    key: str
    run: Run
    title: str
    head: Head
    budgets: Table | None
    before: Table | None
    variants: Table | None
    gains: Table | None
    rivals: Table | None
    rounds: tuple[Table, tuple[Chart, ...]] | None
    widths: Table | None
    latency: Table | None
    timings: Table | None
    classes: Table | None
    baselines: Table | None
    criteria: Table | None
    locks: Table | None
    picture: Svg | None
    environment: tuple[tuple[str, str], ...]

    def shows(self, part: str) -> bool:
        """Whether a section stands in the page: with nothing cut, sections about the cut would be noise."""
        infeasible = self.run.verdict is not None and self.run.verdict.verdict == "infeasible"
        return not infeasible or getattr(self, part, "") is not None

    def missing(self, part: str) -> str:
        """Why a part is not there, in a sentence."""
        file, what = _MISSING[part]
        if (self.run.folder / file).is_file():
            return f"{file} holds nothing on this: {what}."
        return f"There is no {file} in this run; it would hold {what}."


def write_report(runs: Sequence[Path], out: Path) -> Path:
    """Rebuilds the page from the records of one run, or of several side by side.

    Args:
        runs: run folders. Records that a folder lacks are named in the page.
        out: the file to write; for a folder, ``report.html`` in it. Replaced only once the page is complete.

    Returns:
        The path of the page.

    Raises:
        RunFolderError: no run is given, one is no run folder, or ``out`` cannot be written.
        CorruptFile: a record is there and is no valid JSON or YAML.
    """
    if not runs:
        raise RunFolderError("no run folder is given; a report needs at least one")
    out = Path(out)
    if out.is_dir():
        out = out / "report.html"
    page = render([read_run(Path(run)) for run in runs])
    with whole_file(out) as path:
        path.write_text(page, encoding="utf-8")
    return out


def render(runs: Sequence[Run]) -> str:
    """The page as text."""
    views = [_view(run, f"r{index}") for index, run in enumerate(runs, 1)]
    return rendered(
        "template.html",
        views=views,
        several=compare(views) if len(views) > 1 else None,
        quantity=quantity,
        error_text=variants.error_text,
    )


def compare(views: Sequence[View]) -> Table:
    """Several runs side by side: verdict, asked, speed, size, quality, parameters."""
    return Table(
        "", ("Verdict", "Asked", "Speed", "Size", "Quality", "Parameters left"), tuple(map(_compared, views))
    )


def _compared(view: View) -> Row:
    run, v = view.run, view.run.verdict
    gain = next((g for g in v.gains if g.against == v.reference), None) if v else None
    metric = final_metric(run)
    lost = 100 * (metric - v.dense) if v and metric is not None and v.dense is not None else None
    cut = [r.params for r in run.rounds if r.params is not None]
    cells = (
        Cell(f"{view.head.symbol} {view.head.word}", style=view.head.tone),
        Cell(", ".join(f"{b.kind}={b.asked}" for b in v.budgets) if v else ""),
        Cell(times(gain.latency_ratio if gain else None, "faster", "slower")),
        Cell(times(gain.size_ratio if gain else None, "smaller", "larger")),
        Cell(metric_text(v, metric), f"{quantity(lost, 'points')} points" if lost is not None else ""),
        Cell(quantity(cut[-1] / cut[0] if cut and cut[0] else None, "share")),
    )
    return Row(run.name, cells, _remark(view), items=(view.key,))


def _remark(view: View) -> str:
    v = view.run.verdict
    model = _model(view.run)
    return ", ".join(part for part in (model, v.target if v else "") if part)


def _view(run: Run, key: str) -> View:
    return View(
        key=key,
        run=run,
        title=_title(run),
        head=verdict.head(run),
        budgets=verdict.budgets(run),
        before=before(run),
        variants=variants.variants(run),
        gains=variants.gains(run),
        rivals=variants.rivals(run),
        rounds=sections.rounds(run),
        widths=sections.widths(run),
        latency=sections.latency(run),
        timings=sections.timings(run),
        classes=sections.classes(run),
        baselines=sections.baselines(run),
        criteria=_criteria(run),
        locks=sections.locks(run),
        picture=_picture(run),
        environment=sections.environment(run),
    )


def _picture(run: Run) -> Svg | None:
    """Which layers of the dense model are coupled; records of earlier versions do not say enough."""
    record = run.analysis.record if run.analysis is not None else {}
    return picture(record, _model(run) or "The model before the cut") if record.get("weights") else None


def _criteria(run: Run) -> Table | None:
    """What ``criterion: auto`` compared."""
    record = run.analysis.record if run.analysis is not None else {}
    return criteria(record.get("criterion"), run.verdict.metric_name if run.verdict else "metric")


def _title(run: Run) -> str:
    model = _model(run)
    return f"{model} in {run.name}" if model else run.name


def _model(run: Run) -> str:
    model: Any = run.recipe.get("model")
    if isinstance(model, dict):
        model = model.get("name") or model.get("source")
    return model if isinstance(model, str) else ""
