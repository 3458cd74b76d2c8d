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
        vectors = [name for name in wanted if tensors[name].dim() == 1]
        summed = _of_vectors({name: tensors[name] for name in vectors}, self.p)
        for name in wanted.keys() - set(vectors):
            sums = power_sums(tensors[name], self.p, sorted(wanted[name]))
            summed.update({(name, axis): values for axis, values in sums.items()})
        return gather(run.groups, summed)


def _of_vectors(vectors: Mapping[str, Tensor], p: float) -> dict[tuple[str, int], np.ndarray]:
    """``|w|^p`` of tensors with one axis: biases and norms, most of a model's tensors, in one pass for each type."""
    alike: dict[tuple[torch.dtype, torch.device], list[str]] = defaultdict(list)
    for name, vector in vectors.items():
        alike[vector.dtype, vector.device].append(name)
    out = {}
    for names in alike.values():
        powers = power_sums(torch.cat([vectors[n] for n in names]), p, (0,))[0]
        bounds = np.cumsum([len(vectors[n]) for n in names])[:-1]
        out.update({(n, 0): part for n, part in zip(names, np.split(powers, bounds), strict=True)})
    return out


def power_sums(tensor: Tensor, p: float, axes: Sequence[int]) -> dict[int, np.ndarray]:
    """``sum |w|^p`` over all other axes, for each of ``axes``: float64 ``[n]``.

    The tensor is read once, in blocks of its first axis that stay in the processor's cache in double precision; a whole
    layer in double precision would not, and takes several times as long.
    """
    found: dict[int, list[Tensor]] = {axis: [] for axis in axes}
    dropped = [i for i in range(tensor.dim()) if i not in found]
    count, size = tensor.shape[0], tensor.numel()
    rows = max(1, _BLOCK * count // max(1, size)) if tensor.device.type == "cpu" else max(1, count)
    for block in tensor.split(rows):
        powers = (block.abs() if block.is_complex() else block).to(torch.float64, copy=True)
        powers = powers.mul_(powers) if p == 2 else powers.abs_() if p == 1 else powers.abs_().pow_(p)
        if dropped:
            powers = powers.sum(dim=dropped, keepdim=True)
        for axis, sums in found.items():
            others = [i for i in range(tensor.dim()) if i != axis]
            summed = powers.sum(dim=others) if others else powers
            if axis == 0 or not sums:
                sums.append(summed)
            else:
                sums[0] += summed
    return {axis: torch.cat(sums).cpu().numpy() for axis, sums in found.items()}


_BLOCK = 2**18
"""Entries of a block: two megabytes in double precision."""
