"""Layer-adaptive magnitude: a unit's share of what is left once all smaller units of its group are gone.

Lee et al., "Layer-adaptive Sparsity for the Magnitude-based Pruning" (ICLR 2021), section 3, there for single
weights; here for units, whose magnitude is that of everything that goes with them. The last unit of a group always
scores one, so that no group is emptied, and groups compare without a normalisation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from secateur.scoring.magnitude import Magnitude
from secateur.scoring.record import Criterion, Run


@dataclass(frozen=True)
class LAMP(Criterion):
    """``|u|^2 / sum of |v|^2 over all units v at least as large``, in (0, 1]."""

    comparable = True
    reads_blocks = True

    def weigh(self, tensors: Mapping[str, Tensor], run: Run) -> Mapping[str, np.ndarray]:
        """Shares, ``[units]``."""
        return {name: _shares(squares) for name, squares in Magnitude(2.0).weigh(tensors, run).items()}


def _shares(squares: np.ndarray) -> np.ndarray:
    order = np.argsort(squares, kind="stable")
    left = np.cumsum(squares[order][::-1])[::-1]
    shares = np.empty_like(squares)
    shares[order] = np.where(left > 0, squares[order] / np.where(left > 0, left, 1.0), 0.0)
    return shares
