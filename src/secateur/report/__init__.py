"""From the records of a run to one page that says whether the budget is met, and how one knows."""

from __future__ import annotations

from secateur.report.page import write_report

__all__ = ["write_report"]
