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

from secateur.scoring.cells import Axis, where
from secateur.scoring.record import Criterion, Run, gather


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
        wanted: dict[str, dict[Axis, None]] = defaultdict(dict)
        for name, axis in (where(m) for g in run.groups for m in g.members if m.param in tensors):
            wanted[name][axis] = None
        vectors: dict[str, Tensor] = {}
        summed: dict[tuple[str, Axis], np.ndarray] = {}
        for name in wanted:
            tensor = tensors[name]
            if tensor.dim() == 1:
                vectors[name] = tensor
            else:
                sums = power_sums(tensor, self.p, list(wanted[name]))
                summed.update({(name, axis): values for axis, values in sums.items()})
        return gather(run.groups, {**summed, **_of_vectors(vectors, self.p)})


def _of_vectors(vectors: Mapping[str, Tensor], p: float) -> dict[tuple[str, Axis], np.ndarray]:
    """``|w|^p`` of tensors with one axis: biases and norms, most of a model's tensors, in one pass for each type."""
    alike: dict[tuple[torch.dtype, torch.device], list[str]] = defaultdict(list)
    for name, vector in vectors.items():
        alike[vector.dtype, vector.device].append(name)
    out: dict[tuple[str, Axis], np.ndarray] = {}
    for names in alike.values():
        powers = power_sums(torch.cat([vectors[n] for n in names]), p, (0,))[0]
        bounds = np.cumsum([len(vectors[n]) for n in names])[:-1]
        out.update({(n, 0): part for n, part in zip(names, np.split(powers, bounds), strict=True)})
    return out


def power_sums(tensor: Tensor, p: float, axes: Sequence[Axis]) -> dict[Axis, np.ndarray]:
    """``sum |w|^p`` over all other axes, for each of ``axes``: float64 ``[n]``; two axes are counted as one, row-major.

    The tensor is read once, in blocks of its first axis that stay in the processor's cache in double precision; a whole
    layer in double precision would not, and takes several times as long.
    """
    found: dict[Axis, list[Tensor]] = {axis: [] for axis in axes}
    own = {axis: axis if isinstance(axis, tuple) else (axis,) for axis in axes}
    dims = range(tensor.dim())
    dropped = [i for i in dims if not any(i in o for o in own.values())]
    count, size = tensor.shape[0], tensor.numel()
    rows = max(1, _BLOCK * count // max(1, size)) if tensor.device.type == "cpu" else max(1, count)
    for block in tensor.split(rows):
        powers = (block.abs() if block.is_complex() else block).to(torch.float64, copy=True)
        powers = powers.mul_(powers) if p == 2 else powers.abs_() if p == 1 else powers.abs_().pow_(p)
        if dropped:
            powers = powers.sum(dim=dropped, keepdim=True)
        for axis, sums in found.items():
            others = [i for i in dims if i not in own[axis]]
            summed = powers.sum(dim=others) if others else powers
            if 0 in own[axis] or not sums:
                sums.append(summed)
            else:
                sums[0] += summed
    out = {}
    for axis, sums in found.items():
        whole = torch.cat(sums, dim=sorted(own[axis]).index(0) if 0 in own[axis] else 0)
        out[axis] = (whole.T if own[axis] != tuple(sorted(own[axis])) else whole).reshape(-1).cpu().numpy()
    return out


_BLOCK = 2**18
"""Entries of a block: two megabytes in double precision."""
