"""Batch-norm scale: the factor by which a norm lets a channel through.

Liu et al., "Learning Efficient Convolutional Networks through Network Slimming" (ICCV 2017), section 3; made for
networks that were trained with a penalty on these factors, and weak on others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, fx

from secateur.coupling import Group, Member
from secateur.errors import InputError
from secateur.graph import bind, op_name
from secateur.scoring.record import Criterion, Run


@dataclass(frozen=True)
class BatchNormScale(Criterion):
    """The mean of ``|gamma|`` over the batch norms of a unit.

    Units that pass no batch norm score as high as the highest that do, and so are kept for as long as the others last.
    """

    comparable = True

    def weigh(self, tensors: Mapping[str, Tensor], run: Run) -> Mapping[str, np.ndarray]:
        """Factors, ``[units]``."""
        norms = {
            str(weight.target)
            for node in run.groups.graph.nodes
            if node.op == "call_function" and op_name(node) == "aten::batch_norm"
            and isinstance(weight := bind(node)["weight"], fx.Node)
        }  # fmt: skip
        found = {g.name: _scales(tensors, [m for m in g.members if m.param in norms]) for g in run.groups}
        known = [v for v in found.values() if v is not None]
        if not known:
            raise InputError(
                "no unit of this model passes a batch norm with weights: take another criterion, such as sc.Taylor()"
            )
        most = max(float(v.max()) for v in known)
        return {g.name: _or(found[g.name], g, most) for g in run.groups}


def _scales(tensors: Mapping[str, Tensor], members: Sequence[Member]) -> np.ndarray | None:
    if not members:
        return None
    each = [tensors[m.param].abs().double().cpu().numpy()[m.positions].mean(axis=1) for m in members]
    return np.asarray(np.mean(each, axis=0))


def _or(values: np.ndarray | None, group: Group, most: float) -> np.ndarray:
    return np.full(group.units, most) if values is None else values
