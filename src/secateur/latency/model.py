"""The latency of any cut of a model in a runtime, without cutting it: measured once, then a sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from secateur.bench import Device, LocalDevice, default_threads
from secateur.cost import Fit, FittedLatency, Term
from secateur.coupling import Groups
from secateur.data import slice_batch
from secateur.graph import Graph
from secateur.latency.align import align
from secateur.latency.fitting import fit
from secateur.latency.lengths import lengths
from secateur.latency.observe import Observation, Survey, Where, observe
from secateur.task import Inputs


def fit_latency(
    groups: Groups,
    inputs: Inputs,
    where: Where,
    survey: Survey | None = None,
) -> Fit:
    """Measures networks of random widths and fits what their operators take; see :func:`observe` for the arguments.

    Returns:
        A sum of products of lengths in milliseconds, with its errors on networks left out of the fit.
    """
    return fit_of(groups, observe(groups, inputs, where, survey), where.about())


def fit_of(groups: Groups, seen: Sequence[Observation], about: dict[str, Any]) -> Fit:
    """The fit of networks that were measured, the dense one first."""
    profiles = [one.profile for one in seen]
    return fit(
        align(profiles),
        np.array([p.ratio for p in profiles]),
        lengths(groups, [one.alive for one in seen]),
        float(np.median([p.reference_ms for p in profiles])),
        about,
    )


class Latency(FittedLatency):
    """Latency in milliseconds of any cut, at the batch of the example inputs or of one sample.

    It is measured when it is first bound to groups, which takes a minute or two; the cache remembers. See
    ``docs/latency.md``.

    Args:
        graph: the traced model.
        runtime: ``onnxruntime``.
        dtype: ``fp32`` or ``int8``.
        device: this machine by default.
        threads: as many as there are physical cores by default.
        inputs: what is run; one sample of the example inputs by default.
        survey: which networks are measured, and for how long.

    Raises:
        InputError: the device or the runtime does not tell the times of operators.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        runtime: str = "onnxruntime",
        dtype: str = "fp32",
        device: Device | None = None,
        threads: int | None = None,
        inputs: Inputs | None = None,
        survey: Survey | None = None,
    ) -> None:
        self.graph = graph
        self.where = Where(runtime, dtype, device or LocalDevice(), threads or default_threads())
        self.inputs = one_sample(graph) if inputs is None else inputs
        self.survey = survey
        self._fits: dict[str, Fit] = {}

    def terms(self, groups: Groups) -> list[Term]:
        """The fit's terms, over the axes of these groups."""
        key = f"{groups.graph.fingerprint} {groups.removal.names}"
        if key not in self._fits:
            self._fits[key] = fit_latency(groups, self.inputs, self.where, self.survey)
        self.fit = self._fits[key]
        return super().terms(groups)


def one_sample(graph: Graph) -> Inputs:
    """The first sample of the example inputs, in the form that the program takes."""
    whole: Any = dict(graph.kwargs) if graph.kwargs and not graph.args else tuple(graph.args)
    if not graph.kwargs and len(graph.args) == 1:
        whole = graph.args[0]
    sample: Inputs = slice_batch(whole, 0, 1)
    return sample
