"""First-order Taylor saliency: how much the loss would change if a unit's weights were zero.

Molchanov et al., "Importance Estimation for Neural Network Pruning" (CVPR 2019), equation 8: the squared sum
of weight times gradient, averaged over batches. The slices that write a unit and those that read it carry the same
sum, activation times gradient, so each unit is counted once: by the slices that read it, where there are any.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from secateur.coupling import Group, Member
from secateur.data import batch_size, slice_batch
from secateur.errors import DataError, NotFinite
from secateur.scoring.cells import where
from secateur.scoring.record import Criterion, Run, gather, sum_slices
from secateur.task import checked_loss, split_batch, to_device


@dataclass(frozen=True)
class Taylor(Criterion):
    """First-order Taylor expansion of the loss.

    Args:
        batches: how many small batches to average over, at most.
        size: samples in each, at most: the larger it is, the more opposite signs cancel before the square.
    """

    batches: int = 32
    size: int = 16
    comparable = True
    needs_batches = True
    reads_blocks = True

    def weigh(self, tensors: Mapping[str, Tensor], run: Run) -> Mapping[str, np.ndarray]:
        """Mean over batches of ``(sum w * dL/dw)^2`` for each unit."""
        program = run.groups.graph.module
        names = [n for n in tensors if tensors[n].is_floating_point()]
        # The program holds the user's parameters themselves: swap in leaves of our own, for a while.
        leaves = [tensors[n].detach().clone().requires_grad_(True) for n in names]
        own = dict(run.model.named_buffers(remove_duplicate=False))
        # Clones, since a program may write to them.
        buffers = {n: own.get(n, b).clone() for n, b in program.named_buffers()}
        counted = [m for g in run.groups for m in _readers(g)]
        total: dict[str, np.ndarray] = {}
        count = 0
        device = leaves[0].device
        for batch in itertools.islice(_small(run.batches or (), self.size), self.batches):
            inputs, target = split_batch(to_device(batch, device))
            outputs = torch.func.functional_call(
                program,
                buffers | dict(zip(names, leaves, strict=True)),
                *_arguments(inputs),
            )
            loss = checked_loss(run.task, outputs, target)
            if not torch.isfinite(loss):
                raise NotFinite(
                    "the loss is NaN or infinite on a calibration batch; check the data and the model"
                )
            gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
            products = {
                n: (w.detach() * g) for n, w, g in zip(names, leaves, gradients, strict=True) if g is not None
            }
            wanted = {where(m) for m in counted if m.param in products}
            summed = {(n, axis): sum_slices(products[n], axis) for n, axis in wanted}
            for name, value in gather(run.groups, summed, _readers).items():
                total[name] = total.get(name, 0.0) + value**2
            count += 1
        if not count:
            raise DataError("no batches to score on: the data set is empty")
        return {name: value / count for name, value in total.items()}


def _readers(group: Group) -> Sequence[Member]:
    """The members that read the group's units; all of them where none does, as with queries and keys."""
    return [m for m in group.members if m.consumes] or group.members


def _small(batches: Iterable[Any], size: int) -> Iterator[Any]:
    for batch in batches:
        whole = batch_size(split_batch(batch)[0])
        for start in range(0, whole, size):
            yield slice_batch(batch, start, min(whole, start + size))


def _arguments(inputs: object) -> tuple[tuple[object, ...], dict[str, object]]:
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (inputs if isinstance(inputs, tuple) else (inputs,)), {}
