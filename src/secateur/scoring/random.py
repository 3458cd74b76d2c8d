"""Random saliency: the baseline that every criterion has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from secateur.scoring.record import Criterion, Run


@dataclass(frozen=True)
class Random(Criterion):
    """Uniform random saliencies.

    Args:
        seed: the same seed gives the same saliencies.
    """

    seed: int = 0
    needs_weights = False
    reads_blocks = True

    def weigh(self, tensors: Mapping[str, Tensor], run: Run) -> Mapping[str, np.ndarray]:
        """Independent draws from [0, 1)."""
        rng = np.random.default_rng(self.seed)
        return {group.name: rng.random(group.units) for group in run.groups}
