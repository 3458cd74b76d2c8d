"""Suitability as a run knows it: from the fit that it predicts with, and from what its dense variants measured."""

from __future__ import annotations

from typing import Any

from secateur.latency import Suitability, Survey, in_dtype, judged
from secateur.pipeline.degree import Dense
from secateur.pipeline.job import Job
from secateur.pipeline.prediction import fit_of_run


def suitability_of(job: Job, dense: Dense) -> dict[str, Any] | None:
    """``suitability`` of ``analysis.json``; None where latency is not predicted."""
    fit = fit_of_run(job)
    if fit is None:
        return None
    dtype = dense.dtype(job)
    ratio = dense.ratio(dtype) / dense.ratio("fp32")
    survey = Survey(job.rounding, job.ties)
    found = in_dtype(job.groups, fit, dtype, ratio, dense.ratio(dtype) * dense.latency_ms, survey)
    verdict, words = judged(job.target.runtime, [found])
    return Suitability(job.target.runtime, job.threads, (found,), verdict, words).to_json()
