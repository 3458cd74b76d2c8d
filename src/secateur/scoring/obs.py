"""Optimal brain surgeon over whole units: what the loss rises by when a unit goes and the layers that read it are
solved again.

Hassibi and Stork, "Second order derivatives for network pruning: Optimal Brain Surgeon" (NIPS 1992), layer by layer
as in Dong, Chen and Pan, "Learning to Prune Deep Neural Networks via Layer-wise Optimal Brain Surgeon" (NIPS 2017),
for all the weights of a unit at once. For a layer that reads units x with weights W, removing the columns of a unit u
and solving the rest again by least squares adds ``w_u' [(G^-1)_uu]^-1 w_u`` to the squared error of each output, with
G the Gram matrix of x, and an output's error counts by the square of the loss's gradient there. That takes positions
and outputs for independent, and says too little where errors add up; so what a unit scores is the Fisher information
of a gate on it (what the loss rises by if nothing is solved again), times the share of the error that solving again
leaves.

Units go one after another, the one that costs least first, the others' weights and G brought up to date each time: two
units that say the same are not both cheap. No labels are needed: the Fisher information is the model's own, with
labels drawn from what it predicts (Kunstner, Balles and Hennig, NeurIPS 2019, on why not the empirical one).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from secateur.coupling import Group, Member
from secateur.scoring.record import Criterion, Run
from secateur.scoring.watched import at_units, on_inputs
from secateur.scoring.witness import Seen, witness

STEPS = 64  # at least so often, on the way from all units to none, the rest is brought up to date


@dataclass(frozen=True)
class OBS(Criterion):
    """Rise of the loss after a unit is gone and its readers are solved again, in nats of a sample.

    Units that no layer with weights reads, such as the dimensions of queries and keys, are judged by the Fisher
    information of a gate on them (Theis et al., "Faster gaze prediction with dense networks and Fisher pruning", 2018).

    Args:
        samples: inputs to look at.
        rows: positions of a layer's input that its Gram matrix is made of, at most (more where it has many inputs).
        damp: added to the Gram matrix, as a share of its mean diagonal.
        seed: of the positions, and of the labels that are drawn.
    """

    samples: int = 512
    rows: int = 30_000
    damp: float = 1e-3
    seed: int = 0
    comparable = True
    needs_batches = True

    def weigh(self, tensors: Mapping[str, Tensor], run: Run) -> Mapping[str, np.ndarray]:
        """The rise of the loss when a unit goes after all that cost less."""
        seen = witness(tensors, run, self.samples, self.rows, self.seed)
        found = {g.name: _rises(g, seen, tensors, self.damp) for g in run.groups}
        most = max((float(v.max()) for v in found.values() if v is not None), default=1.0)
        # What nothing is known of is kept.
        units = {g.name: g.units for g in run.groups}
        return {n: np.full(units[n], most) if v is None else v for n, v in found.items()}


def _rises(
    group: Group, seen: Sequence[Seen], tensors: Mapping[str, Tensor], damp: float
) -> np.ndarray | None:
    readers = [
        _Reader.of(s, member, tensors[member.param], damp)
        for member in group.members
        for s in (seen if member.consumes else ())
        if s.layer.weight == member.param and on_inputs(member, s.layer)
    ]
    gates = at_units(group, [(s.layer, s.read, s.given) for s in seen])
    if not gates:
        return None
    whole = torch.stack([g.sum(-1) for g in gates]).sum(0).pow(2).mean(0) / 2
    return _removed_in_turn(readers, whole) if readers else np.asarray(whole)


@dataclass
class _Reader:
    """A layer that reads the group's units: what is left of it.

    Args:
        inverse: ``[G, K, K]``, of the Gram matrix.
        weight: ``[G, K, O]``, each output scaled by the root of what its squared error costs.
        places: int64 ``[units, B]``: which inputs of a group belong to each unit.
    """

    inverse: Tensor
    weight: Tensor
    places: Tensor
    gram: Tensor

    @classmethod
    def of(cls, seen: Seen, member: Member, weight: Tensor, damp: float) -> _Reader:
        layer = seen.layer
        matrix = layer.matrix(weight.double())
        scale = seen.gram.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-30)
        eye = torch.eye(seen.gram.shape[1], dtype=torch.float64)
        inverse = torch.linalg.inv(seen.gram + (damp * scale)[:, None, None] * eye)
        kernel = matrix.shape[1] // (weight.shape[0] if layer.transposed else weight.shape[1])
        positions = torch.from_numpy(member.positions)
        places = (positions[:, :, None] * kernel + torch.arange(kernel)).flatten(1)
        return cls(inverse, matrix * seen.cost.sqrt().unsqueeze(1), places, seen.gram)

    def plain(self) -> Tensor:
        """What each unit would cost if nothing was solved again, ``[units]``."""
        blocks = self.gram[:, self.places[:, :, None], self.places[:, None, :]]
        rows = self.weight[:, self.places]
        return 0.5 * (blocks @ rows * rows).sum(dim=(0, 2, 3))

    def rise(self, units: Tensor) -> Tensor:
        """What each of these units costs if it goes next, ``[units]``."""
        at = self.places[units]
        blocks = self.inverse[:, at[:, :, None], at[:, None, :]]
        rows = self.weight[:, at]
        return 0.5 * (torch.linalg.solve(blocks, rows) * rows).sum(dim=(0, 2, 3))

    def remove_(self, units: Tensor) -> None:
        """Takes units out and solves the rest again."""
        at = self.places[units].reshape(-1)
        columns = self.inverse[:, :, at]
        part = torch.linalg.solve(columns[:, at], columns.mT).mT
        self.weight -= part @ self.weight[:, at]
        self.inverse -= part @ columns.mT
        # What is gone must not come back as rounding.
        self.weight[:, at] = 0.0
        self.inverse[:, at], self.inverse[:, :, at] = 0.0, 0.0


def _removed_in_turn(readers: Sequence[_Reader], whole: Tensor) -> np.ndarray:
    left = torch.arange(len(whole))
    rises = np.zeros(len(whole))
    factor = whole / torch.stack([r.plain() for r in readers]).sum(0).clamp(min=1e-30)
    so_far = 0.0
    while len(left):
        each = torch.stack([r.rise(left) for r in readers]).sum(0) * factor[left]
        order = each.argsort(stable=True)
        now = left[order[: max(1, len(left) // STEPS)]]
        # A unit that costs less than one before it, now that this one is gone, is not to be ranked before it.
        for unit, rise in zip(now.tolist(), each[order].tolist(), strict=False):
            so_far = max(so_far, rise)
            rises[unit] = so_far
        left = left[~torch.isin(left, now)]
        if len(left):
            for reader in readers:
                reader.remove_(now)
    return rises
