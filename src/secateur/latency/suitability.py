"""Whether pruning pays here, before any work: where the time goes, what half of the widths would save, and what INT8
alone gives.

The fit tells three kinds of time apart: what no width changes (the runtime's own overhead, operators on locked axes),
what falls with a width (traffic, element by element), and what falls with two (products). A network that is mostly the
first gains little however much is cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from secateur.bench import Effort, Entry, measure
from secateur.cost import Fit, FittedLatency
from secateur.coupling import Groups
from secateur.deploy import format_for
from secateur.latency.model import fit_latency
from secateur.latency.observe import Survey, Where
from secateur.planning import Problem, Uniform
from secateur.scoring import Random, score
from secateur.task import Inputs

WORTH = 1.2  # gains below this are not worth a change of the model
LAYERS = 12


@dataclass(frozen=True)
class InDtype:
    """A model in one dtype.

    Args:
        dtype: ``fp32`` or ``int8``.
        ratio: its dense latency over the fp32 one's, measured in turn; 1 for fp32.
        dense_ms: dense latency.
        fixed, linear, products: shares of the time that no width, one width, or two widths change.
        half: predicted latency with half of the units of every group, as a share of the dense one's.
        least: the same with one step of every group left: no plan goes below.
        error: the prediction's median error on networks left out of the fit.
        slowest: the operators that take most, with their shares.
    """

    dtype: str
    ratio: float
    dense_ms: float
    fixed: float
    linear: float
    products: float
    half: float
    least: float
    error: float
    slowest: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Suitability:
    """What pruning and quantising would give in one runtime.

    Args:
        runtime: its name.
        threads: of the runtime.
        dtypes: the model in each dtype.
        verdict: ``prune``, ``quantise``, ``quantise and prune`` or ``leave``.
        words: the verdict in a sentence or two.
    """

    runtime: str
    threads: int
    dtypes: tuple[InDtype, ...]
    verdict: str
    words: str

    def to_json(self) -> dict[str, Any]:
        """The record as it stands in ``analysis.json``."""
        data = asdict(self)
        data["dtypes"] = [{**asdict(d), "slowest": [list(s) for s in d.slowest]} for d in self.dtypes]
        return data


def suitability(
    groups: Groups,
    inputs: Inputs,
    places: Mapping[str, Where],
    scratch: Path,
    survey: Survey | None = None,
    effort: Effort | None = None,
) -> Suitability:
    """Measures a model in each dtype of a runtime and says whether pruning pays.

    Args:
        groups: of the model.
        inputs: what is run.
        places: where, by dtype, ``fp32`` among them; one runtime, device and number of threads.
        scratch: a folder for the artifacts.
        survey: as for :func:`fit_latency`.
        effort: of the comparison of the dense artifacts.

    Raises:
        SecateurError: see :func:`fit_latency`.
    """
    survey = survey or Survey()
    entries = []
    for dtype, where in places.items():
        exporter = format_for(where.runtime, dtype)
        path = exporter.write(groups.graph.module, inputs, scratch / f"{dtype}-{exporter.filename}", [inputs])
        entries.append(Entry(dtype, path, where.runtime, dtype))
    first = places["fp32"]
    timed = measure(
        entries,
        inputs,
        reference="fp32",
        device=first.device,
        threads=first.threads,
        phase="analysis",
        effort=effort,
    )
    found = []
    for measured in timed:
        where = places[measured.dtype]
        fit = fit_latency(groups, inputs, where, survey)
        ratio = 1.0 if measured.ratio is None else measured.ratio
        found.append(in_dtype(groups, fit, measured.dtype, ratio, measured.median_ms, survey))
    verdict, words = judged(first.runtime, found)
    return Suitability(first.runtime, first.threads, tuple(found), verdict, words)


def judged(runtime: str, found: list[InDtype]) -> tuple[str, str]:
    """The verdict, and why. What counts is what pruning adds to the best that can be had without."""
    best = min(found, key=lambda d: d.ratio)
    quantised = 1.0 / best.ratio
    half, least = 1.0 / best.half, 1.0 / best.least
    quantise, prune = best.dtype != "fp32" and quantised >= WORTH, half >= WORTH
    verdict = {
        (True, True): "quantise and prune", (True, False): "quantise", (False, True): "prune", (False, False): "leave",
    }[(quantise, prune)]  # fmt: skip
    alone = " and ".join(f"{d.dtype} alone makes it {_times(d.ratio)}" for d in found if d.dtype != "fp32")
    advice = {
        "prune": "prune it",
        "quantise": "quantise it and leave its widths alone: a lighter architecture would gain more than pruning",
        "quantise and prune": "quantise it first, then prune",
        "leave": "leave it as it is, or take a lighter architecture: neither pruning nor quantising pays here",
    }[verdict]
    words = (
        f"in {runtime} {best.dtype}, {best.fixed:.0%} of the time is not changed by any width; half of the units "
        f"would give {half:.2f}x, the narrowest network {least:.2f}x"
    )
    return verdict, f"{advice}. {words[0].upper()}{words[1:]}{'; ' + alone if alone else ''}."


def in_dtype(groups: Groups, fit: Fit, dtype: str, ratio: float, dense_ms: float, survey: Survey) -> InDtype:
    """A model in one dtype, from its fit there; ``ratio`` and ``dense_ms`` are what its dense artifact measured."""
    cost = FittedLatency(groups.graph, fit).bind(groups)
    by_width = {0: 0.0, 1: 0.0, 2: 0.0}
    by_layer: dict[str, float] = {}
    names = _widths(fit)
    for term in cost.parts:
        by_width[min(len(term.axes), 2)] += term.dense / cost.dense
        layer = names.get(term.layer, term.layer)
        by_layer[layer] = by_layer.get(layer, 0.0) + term.dense / cost.dense
    scores = score(groups.graph.module, groups, Random(0), cells=False)
    problem = Problem(scores, survey.rounding, None, ties=survey.ties)
    half, least = (
        cost.of(problem.alive(widths)) / cost.dense
        for widths in (Uniform().widths(problem, 0.5), problem.floors)
    )
    slowest = sorted(by_layer.items(), key=lambda item: -item[1])[:LAYERS]
    fixed, linear, products = (float(np.clip(by_width[n], 0.0, 1.0)) for n in (0, 1, 2))
    return InDtype(
        dtype, ratio, dense_ms, fixed, linear, products, half, least, fit.median_error, tuple(slowest)
    )


def _times(ratio: float) -> str:
    """A ratio of times in words."""
    return f"{1 / ratio:.2f} times faster" if ratio <= 1 else f"{ratio:.2f} times slower"


def _widths(fit: Fit) -> dict[str, str]:
    """By operator, whose widths it depends on most: a name that the user knows."""
    found: dict[str, tuple[str, ...]] = {}
    for term in fit.terms:
        names = tuple(dict.fromkeys(name.removesuffix(".weight") for name, _, _ in term.lengths))
        if len(term.lengths) >= len(found.get(term.node, ())):
            found[term.node] = names
    return {node: " x ".join(names) if names else node for node, names in found.items()}
