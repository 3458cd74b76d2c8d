"""First-order Taylor saliency: how much the loss would change if a unit's weights were zero.

Molchanov et al., "Importance Estimation for Neural Network Pruning" (CVPR 2019), equation 8: the squared sum
of weight times gradient, averaged over batches; here over every slice that dies with the unit.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from secateur.errors import DataError, NotFinite
from secateur.scoring.record import Criterion, Run, gather, sum_slices
from secateur.task import checked_loss, split_batch, to_device


@dataclass(frozen=True)
class Taylor(Criterion):
    """First-order Taylor expansion of the loss.

    Args:
        batches: how many batches to average over, at most.
    """

    batches: int = 16
    comparable = True
    needs_batches = True

    def weigh(self, tensors: Mapping[str, Tensor], run: Run) -> Mapping[str, np.ndarray]:
        """Mean over batches of ``(sum w * dL/dw)^2`` for each unit."""
        program = run.groups.graph.module
        names = [n for n in tensors if tensors[n].is_floating_point()]
        # The program holds the user's parameters themselves: swap in leaves of our own, for a while.
        leaves = [tensors[n].detach().clone().requires_grad_(True) for n in names]
        own = dict(run.model.named_buffers(remove_duplicate=False))
        # Clones, since a program may write to them.
        buffers = {n: own.get(n, b).clone() for n, b in program.named_buffers()}
        total: dict[str, np.ndarray] = {}
        count = 0
        device = leaves[0].device
        for batch in itertools.islice(iter(run.batches or ()), self.batches):
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
            wanted = {(m.param, m.axis) for g in run.groups for m in g.members if m.param in products}
            summed = {(n, axis): sum_slices(products[n], axis) for n, axis in wanted}
            for name, value in gather(run.groups, summed).items():
                total[name] = total.get(name, 0.0) + value**2
            count += 1
        if not count:
            raise DataError("no batches to score on: the data set is empty")
        return {name: value / count for name, value in total.items()}


def _arguments(inputs: object) -> tuple[tuple[object, ...], dict[str, object]]:
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (inputs if isinstance(inputs, tuple) else (inputs,)), {}
