"""Geometric median: a unit whose weights lie among those of the others can be replaced by them.

He et al., "Filter Pruning via Geometric Median for Deep Convolutional Neural Networks Acceleration" (CVPR 2019),
equations 4 to 8: the sum of the distances to all other units of the layer, over the weights that make the units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from secateur.coupling import Group, Member
from secateur.scoring.record import Criterion, Run


@dataclass(frozen=True)
class FPGM(Criterion):
    """Mean distance from a unit's weights to those of the other units, layer by layer, summed over the layers that make
    the units; of all layers where none does."""

    def weigh(self, tensors: Mapping[str, Tensor], run: Run) -> Mapping[str, np.ndarray]:
        """Distances, ``[units]``."""
        return {
            g.name: sum((_distances(tensors[m.param], m) for m in _makers(g, tensors)), np.zeros(g.units))
            for g in run.groups
        }


def _makers(group: Group, tensors: Mapping[str, Tensor]) -> Sequence[Member]:
    """The members with more than one axis that make units, rather than read them."""
    known = [m for m in group.members if m.param in tensors]
    wide = [m for m in known if tensors[m.param].dim() > 1]
    return [m for m in wide if not m.consumes] or wide or known


def _distances(tensor: Tensor, member: Member) -> np.ndarray:
    rows = tensor.double().movedim(member.axis, 0)
    positions = torch.from_numpy(member.positions).to(rows.device)
    units = rows[positions].flatten(1)
    found = torch.cdist(units, units).sum(1) / max(1, len(units) - 1)
    return np.asarray(found.cpu().numpy())
