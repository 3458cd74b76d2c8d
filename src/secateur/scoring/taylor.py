"""First-order Taylor saliency: how much the loss would change if a unit's weights were zero.

Molchanov et al., "Importance Estimation for Neural Network Pruning" (CVPR 2019), equation 8: the squared sum
of weight times gradient, averaged over batches. The slices that write a unit and those that read it carry the same
sum, activation times gradient, so each unit is counted once: by the slices that read it, where there are any.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from secateur.coupling import Group, Member
from secateur.data import batch_size, slice_batch
from secateur.errors import DataError, NotFinite
from secateur.scoring.cells import where
from secateur.scoring.drawn import drawn_loss
from secateur.scoring.record import Criterion, Run, gather, sum_slices
from secateur.task import checked_loss, logits, split_batch, to_device


@dataclass(frozen=True)
class Taylor(Criterion):
    """First-order Taylor expansion of the loss.

    Args:
        batches: how many small batches to average over, at most.
        size: samples in each, at most: the larger it is, the more opposite signs cancel before the square.
        drawn: whether labels are drawn from what the model predicts, so that none are needed and the squares are the
            Fisher information of a gate on each unit, but for a factor.
        seed: of these labels.
    """

    batches: int = 32
    size: int = 16
    drawn: bool = False
    seed: int = 0
    comparable = True
    needs_batches = True
    reads_blocks = True

    def weigh(self, tensors: Mapping[str, Tensor], run: Run) -> Mapping[str, np.ndarray]:
        """Mean over batches of ``(sum w * dL/dw)^2`` for each unit."""
        counted = [m for g in run.groups for m in readers(g)]
        total: dict[str, np.ndarray] = {}
        count = 0
        for products in weight_times_gradient(tensors, run, self):
            wanted = {where(m) for m in counted if m.param in products}
            summed = {(n, axis): sum_slices(products[n], axis) for n, axis in wanted}
            for name, value in gather(run.groups, summed, readers).items():
                total[name] = total.get(name, 0.0) + value**2
            count += 1
        return {name: value / count for name, value in total.items()}


class Looks(Protocol):
    """How data are looked at: see :class:`Taylor`."""

    @property
    def batches(self) -> int: ...

    @property
    def size(self) -> int: ...
    @property
    def drawn(self) -> bool: ...
    @property
    def seed(self) -> int: ...


def weight_times_gradient(
    tensors: Mapping[str, Tensor], run: Run, looks: Looks
) -> Iterator[dict[str, Tensor]]:
    """``w * dL/dw`` of every parameter, batch by batch, L being the mean loss of the batch.

    Raises:
        DataError: there are no batches.
        NotFinite: the loss is NaN or infinite.
    """
    program = run.groups.graph.module
    names = [n for n in tensors if tensors[n].is_floating_point()]
    # The program holds the user's parameters themselves: swap in leaves of our own, for a while.
    leaves = [tensors[n].detach().clone().requires_grad_(True) for n in names]
    own = dict(run.model.named_buffers(remove_duplicate=False))
    # Clones, since a program may write to them.
    buffers = {n: own.get(n, b).clone() for n, b in program.named_buffers()}
    device, generator = leaves[0].device, torch.Generator().manual_seed(looks.seed)
    count = 0
    for batch in itertools.islice(small_batches(run.batches or (), looks.size), looks.batches):
        inputs, target = split_batch(to_device(batch, device))
        outputs = torch.func.functional_call(
            program, buffers | dict(zip(names, leaves, strict=True)), *_arguments(inputs)
        )
        if looks.drawn:
            found = logits(outputs)
            loss = drawn_loss(run.task, found, generator) / len(found)
        else:
            loss = checked_loss(run.task, outputs, target)
        if not torch.isfinite(loss):
            raise NotFinite(
                "the loss is NaN or infinite on a calibration batch; check the data and the model"
            )
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
        yield {n: w.detach() * g for n, w, g in zip(names, leaves, gradients, strict=True) if g is not None}
        count += 1
    if not count:
        raise DataError("no batches to score on: the data set is empty")


def readers(group: Group) -> Sequence[Member]:
    """The members that read the group's units; all of them where none does, as with queries and keys."""
    return [m for m in group.members if m.consumes] or group.members


def small_batches(batches: Iterable[Any], size: int) -> Iterator[Any]:
    """The same samples in batches of at most ``size``."""
    for batch in batches:
        whole = batch_size(split_batch(batch)[0])
        for start in range(0, whole, size):
            yield slice_batch(batch, start, min(whole, start + size))


def _arguments(inputs: object) -> tuple[tuple[object, ...], dict[str, object]]:
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (inputs if isinstance(inputs, tuple) else (inputs,)), {}
