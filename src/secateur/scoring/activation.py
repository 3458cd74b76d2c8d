"""Activation statistics: how much of a unit arrives at the layers that read it.

The mean absolute activation (Molchanov et al., "Pruning Convolutional Neural Networks for Resource Efficient
Inference", ICLR 2017, section 2.2), and the share of activations that are not zero (Hu et al., "Network Trimming",
2016, section 3.1, whose APoZ is the share that are).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from secateur.errors import DataError
from secateur.graph import layer_of
from secateur.scoring.record import Criterion, Run
from secateur.scoring.taylor import small_batches
from secateur.scoring.watched import Watched, at_units, state_of
from secateur.task import split_batch, to_device

SIZE = 32


@dataclass(frozen=True)
class _Activation(Criterion):
    """A mean over samples and positions of what a unit is where it is read, or made if no layer reads it.

    Args:
        samples: inputs to look at.
    """

    samples: int = 512
    needs_batches = True

    @abstractmethod
    def seen(self, values: Tensor) -> Tensor:
        """What is averaged, one number for each activation."""

    def weigh(self, tensors: Mapping[str, Tensor], run: Run) -> Mapping[str, np.ndarray]:
        """Means, ``[units]``."""
        program = run.groups.graph.module
        layers = {n: found for n in program.graph.nodes if (found := layer_of(n, program)) is not None}
        state, device = state_of(tensors, run), next(iter(tensors.values())).device
        sums: dict[object, Tensor] = {}
        count = 0
        for batch in small_batches(run.batches or (), SIZE):
            if count >= self.samples:
                break
            watched = Watched(run.groups.graph, state, layers, gradients=False)
            with torch.no_grad():
                count += watched.run_on(split_batch(to_device(batch, device))[0])
            for side in (watched.read, watched.given):
                for node, value in side.items():
                    last = self.seen(value).movedim(layers[node].channel, -1).double()
                    key = (node, side is watched.read)
                    sums[key] = sums.get(key, torch.zeros(())) + last.reshape(-1, last.shape[-1]).mean(
                        0
                    ) * len(value)
        if not count:
            raise DataError("no batches to score on: the data set is empty")
        means = [(layers[n], sums[n, True], sums[n, False]) for n in layers if (n, True) in sums]
        known = {g.name: at_units(g, means) for g in run.groups}
        most = max((float(v[0].max()) for v in known.values() if v), default=0.0)
        return {
            g.name: np.asarray(torch.stack([v.mean(-1) for v in known[g.name]]).mean(0).cpu() / count)
            if known[g.name]
            else np.full(g.units, most / count)
            for g in run.groups
        }


@dataclass(frozen=True)
class MeanActivation(_Activation):
    """The mean of ``|x|``."""

    def seen(self, values: Tensor) -> Tensor:
        return values.abs()


@dataclass(frozen=True)
class APoZ(_Activation):
    """The share of activations that are not zero: the complement of the average percentage of zeros."""

    def seen(self, values: Tensor) -> Tensor:
        return (values != 0).to(torch.float32)
