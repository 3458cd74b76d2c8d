"""Diagonal Fisher information: how much the loss would rise if a unit's weights were zero, each for itself.

Theis et al., "Faster gaze prediction with dense networks and Fisher pruning" (2018), equations 4 and 10, over weights
as in Le Cun, Denker and Solla, "Optimal Brain Damage" (NIPS 1989), section 2, with the squared gradient for the
second derivative. Unlike :class:`secateur.scoring.Taylor`, which squares a unit's sum, nothing within a unit cancels
here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from secateur.scoring.cells import where
from secateur.scoring.record import Criterion, Run, gather, sum_slices
from secateur.scoring.taylor import readers, weight_times_gradient


@dataclass(frozen=True)
class Fisher(Criterion):
    """Half the sum of ``(w * dL/dw)^2`` over the weights that read a unit.

    Args:
        batches: how many small batches to average over, at most.
        size: samples in each, at most; with one, the gradients are those of single samples, as in the definition.
        drawn: whether labels are drawn from what the model predicts, as the definition has it; those of the data
            otherwise (the empirical Fisher information).
        seed: of these labels.
    """

    batches: int = 256
    size: int = 1
    drawn: bool = True
    seed: int = 0
    comparable = True
    needs_batches = True
    reads_blocks = True

    def weigh(self, tensors: Mapping[str, Tensor], run: Run) -> Mapping[str, np.ndarray]:
        """Loss, ``[units]``."""
        counted = [m for g in run.groups for m in readers(g)]
        total: dict[str, np.ndarray] = {}
        count = 0
        for products in weight_times_gradient(tensors, run, self):
            wanted = {where(m) for m in counted if m.param in products}
            summed = {(n, axis): sum_slices(products[n].square(), axis) for n, axis in wanted}
            for name, value in gather(run.groups, summed, readers).items():
                total[name] = total.get(name, 0.0) + value
            count += 1
        return {name: value / (2 * count) for name, value in total.items()}
