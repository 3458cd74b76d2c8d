"""From the records of a run to one page that says whether the budget is met, and how one knows."""

from __future__ import annotations

from secateur.report.causes import Cause, by_cause, held
from secateur.report.names import folded, name_range, pattern
from secateur.report.page import write_report
from secateur.report.picture import picture
from secateur.report.sweep import headline, standing, write_sweep

__all__ = [
    "Cause",
    "by_cause",
    "folded",
    "headline",
    "held",
    "name_range",
    "pattern",
    "picture",
    "standing",
    "write_report",
    "write_sweep",
]
