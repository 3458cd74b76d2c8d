"""Latency as a cost: what any cut of a model takes in a runtime and dtype, predicted from a few measured networks.

A dozen networks of random widths are cut, exported and profiled where they will run (:mod:`observe`). The operators of
all of them are matched (:mod:`align`), their dimensions traced back to axes of the program (:mod:`lengths`), and each
operator's time fitted to products of these (:mod:`fitting`). What comes out is a sum of products like parameters and
multiply-adds, so the same solvers spend it.
"""

from __future__ import annotations

from secateur.latency.model import Latency, fit_latency, fit_of, one_sample
from secateur.latency.observe import Observation, Pace, Survey, Where, cache_folder, observe
from secateur.latency.rivals import Rival, RuntimeChoice, choose_runtime
from secateur.latency.suitability import InDtype, Suitability, in_dtype, judged, suitability

__all__ = [
    "InDtype", "Latency", "Observation", "Pace", "Rival", "RuntimeChoice", "Suitability", "Survey", "Where",
    "cache_folder", "choose_runtime", "fit_latency", "fit_of", "in_dtype", "judged", "observe", "one_sample",
    "suitability",
]  # fmt: skip
