"""What can be pruned in a model and what cannot, as the plain data of ``analysis.json``.

A group's parameters are those at positions that its units reach: what the model would lose if all of them went. A
parameter between two groups is reached by both, so these numbers may add up to more than the model has.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.nn import Parameter

from secateur.cost import BoundCost, Macs, Params
from secateur.coupling import Group, Groups, Lock


def analysis(groups: Groups) -> dict[str, Any]:
    """The content of ``analysis.json``: counts of the whole model, groups, and locks with their reasons.

    ``params`` of a lock are the parameters at the locked positions; a buffer has none. Suitability and sensitivity are
    not measured, and are ``None``.
    """
    params, macs = Params(groups.graph).bind(groups), Macs(groups.graph).bind(groups)
    everything = _without(groups, np.empty(0, dtype=np.int64))
    dense = params.of(everything)
    return {
        "params": round(dense),
        "macs": round(macs.of(everything)),
        "prunable_share": float(groups.prunable_share),
        "groups": [_group(groups, group, params, dense) for group in groups],
        "locked": [_lock(groups, lock) for lock in groups.locked],
        "suitability": None,
        "sensitivity": None,
    }


def _without(groups: Groups, atoms: np.ndarray) -> np.ndarray:
    """bool ``[labels]``: what lives when these atoms go."""
    return groups.coupling.alive(atoms)


def _group(groups: Groups, group: Group, params: BoundCost, dense: float) -> dict[str, Any]:
    return {
        "name": group.name,
        "units": group.units,
        "params": round(dense - params.of(_without(groups, group.atoms))),
        "axes": [{"param": m.param, "axis": m.axis, "multiplicity": m.multiplicity} for m in group.members],
    }


def _lock(groups: Groups, lock: Lock) -> dict[str, Any]:
    tensor = groups.graph.tensor(lock.param)
    held = tensor.numel() * lock.positions // lock.size if isinstance(tensor, Parameter) else 0
    return {
        "param": lock.param,
        "axis": lock.axis,
        "size": lock.size,
        "params": held,
        "operator": lock.operator,
        "reason": lock.reason,
        "source": lock.source,
        "remedy": lock.remedy,
    }
