"""Magnitude of the weights that go with a unit, over the whole coupled group.

Li et al., "Pruning Filters for Efficient ConvNets" (ICLR 2017), section 3.1, there for the filter alone with
p = 1; here over every parameter slice that dies with the unit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from secateur.scoring.record import Criterion, Run, gather


@dataclass(frozen=True)
class Magnitude(Criterion):
    """The p-norm of all weights removed with a unit, to the power of p, so that slices add up.

    Args:
        p: 1 or 2 in practice; any positive number.
    """

    p: float = 2.0

    def weigh(self, tensors: Mapping[str, Tensor], run: Run) -> Mapping[str, np.ndarray]:
        """``sum |w|^p`` for each unit."""
        wanted: dict[str, set[int]] = defaultdict(set)
        for member in (m for g in run.groups for m in g.members if m.param in tensors):
            wanted[member.param].add(member.axis)
        summed = {
            (name, axis): values
            for name, axes in wanted.items()
            for axis, values in power_sums(tensors[name], self.p, sorted(axes)).items()
        }
        return gather(run.groups, summed)


def power_sums(tensor: Tensor, p: float, axes: Sequence[int]) -> dict[int, np.ndarray]:
    """``sum |w|^p`` over all other axes, for each of ``axes``: float64 ``[n]``.

    The tensor is read once, in blocks of its first axis that stay in the processor's cache in double precision; a whole
    layer in double precision would not, and takes several times as long.
    """
    out = {axis: torch.zeros(tensor.shape[axis], dtype=torch.float64) for axis in axes}
    dropped = [i for i in range(tensor.dim()) if i not in out]
    rows = (
        len(tensor) if tensor.device.type != "cpu" else max(1, _BLOCK * len(tensor) // max(1, tensor.numel()))
    )
    for start in range(0, len(tensor), rows):
        block = tensor[start : start + rows]
        powers = (block.abs() if block.is_complex() else block).to(torch.float64, copy=True)
        powers = powers.mul_(powers) if p == 2 else powers.abs_() if p == 1 else powers.abs_().pow_(p)
        if dropped:
            powers = powers.sum(dim=dropped, keepdim=True)
        for axis, total in out.items():
            others = [i for i in range(tensor.dim()) if i != axis]
            summed = (powers.sum(dim=others) if others else powers).cpu()
            if axis == 0:
                total[start : start + rows] = summed
            else:
                total += summed
    return {axis: total.numpy() for axis, total in out.items()}


_BLOCK = 2**18
"""Entries of a block: two megabytes in double precision."""
