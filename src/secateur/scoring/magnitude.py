"""Magnitude of the weights that go with a unit, over the whole coupled group.

Li et al., "Pruning Filters for Efficient ConvNets" (ICLR 2017), section 3.1, there for the filter alone with
p = 1; here over every parameter slice that dies with the unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from secateur.scoring.cells import where
from secateur.scoring.record import Criterion, Run, gather, sum_slices


@dataclass(frozen=True)
class Magnitude(Criterion):
    """The p-norm of all weights removed with a unit, to the power of p, so that slices add up.

    Args:
        p: 1 or 2 in practice; any positive number.
    """

    p: float = 2.0
    reads_blocks = True

    def weigh(self, tensors: Mapping[str, Tensor], run: Run) -> Mapping[str, np.ndarray]:
        """``sum |w|^p`` for each unit."""
        powers = dict.fromkeys(where(m) for g in run.groups for m in g.members if m.param in tensors)
        summed = {
            (name, axis): sum_slices(tensors[name].abs().double() ** self.p, axis) for name, axis in powers
        }
        return gather(run.groups, summed)
