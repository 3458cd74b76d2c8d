"""What can be pruned in a model and what cannot, as the plain data of ``analysis.json``.

A group's parameters are those at positions that its units reach: what the model would lose if all of them went. A
parameter between two groups is reached by both, so these numbers may add up to more than the model has.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.nn import Parameter

from secateur.cost import BoundCost, Macs, Params
from secateur.coupling import Cause, Group, Groups, Lock


def analysis(groups: Groups) -> dict[str, Any]:
    """The content of ``analysis.json``: counts of the whole model, groups, and locks with their reasons.

    ``weights`` are the parameters with two axes and more, in the order of the program. ``params`` of a lock are the
    parameters at the locked positions; a buffer has none. What is locked as one has one ``component``. What takes
    measuring is ``None`` here.
    """
    params, macs = Params(groups.graph).bind(groups), Macs(groups.graph).bind(groups)
    everything = _without(groups, np.empty(0, dtype=np.int64))
    dense = params.of(everything)
    return {
        "params": round(dense),
        "macs": round(macs.of(everything)),
        "prunable_share": float(groups.prunable_share),
        "weights": _weights(groups),
        "groups": [_group(groups, group, params, dense) for group in groups],
        "locked": locked(groups),
        "blocks": blocks(groups),
        "suitability": None,
        "sensitivity": None,
        "criterion": None,
        "depth": None,
        "forecast": None,
    }


def locked(groups: Groups) -> list[dict[str, Any]]:
    """What is locked, as ``analysis.json`` has it."""
    return [_lock(groups, lock) for lock in groups.locked]


def blocks(groups: Groups) -> list[dict[str, Any]]:
    """What can be removed whole, and what looks like it but cannot: ``locked`` says why."""
    params, macs = Params(groups.graph).of_blocks(groups), Macs(groups.graph).of_blocks(groups)
    return [
        {
            "name": block.name,
            "kind": block.kind,
            "params": round(params.get(block.name, 0)),
            "macs": round(macs.get(block.name, 0)),
            "branches": list(block.branches),
            "source": block.source,
            "locked": list(block.locked),
        }
        for block in groups.blocks
    ]


def _without(groups: Groups, atoms: np.ndarray) -> np.ndarray:
    """bool ``[labels]``: what lives when these atoms go."""
    return groups.coupling.alive(atoms)


def _group(groups: Groups, group: Group, params: BoundCost, dense: float) -> dict[str, Any]:
    return {
        "name": group.name,
        "units": group.units,
        "params": round(dense - params.of(_without(groups, group.atoms))),
        "axes": [
            {"param": m.param, "axis": m.axis, "multiplicity": m.multiplicity, "reads": m.consumes}
            for m in group.members
        ],
    }


def _weights(groups: Groups) -> list[dict[str, Any]]:
    """The parameters with at least two axes, in the order in which the program first uses them."""
    rows: dict[int, dict[str, Any]] = {}
    for node in groups.graph.nodes:
        for used in node.all_input_nodes if node.op == "call_function" else ():
            tensor = groups.graph.tensor(str(used.target)) if used.op == "get_attr" else None
            if isinstance(tensor, Parameter) and sum(n > 1 for n in tensor.shape) > 1:
                name = str(used.target)
                rows.setdefault(
                    id(tensor),
                    {
                        "param": name,
                        "shape": list(tensor.shape),
                        "params": tensor.numel(),
                        "prunable_share": groups.prunable(name),
                    },
                )
    return list(rows.values())


def _lock(groups: Groups, lock: Lock) -> dict[str, Any]:
    tensor = groups.graph.tensor(lock.param)
    held = tensor.numel() * lock.positions // lock.size if isinstance(tensor, Parameter) else 0
    return {
        "param": lock.param,
        "axis": lock.axis,
        "size": lock.size,
        "positions": lock.positions,
        "spans": [list(span) for span in lock.spans],
        "params": held,
        "reads": (lock.param, lock.axis) in groups.consumed,
        "component": lock.component,
        **_cause(lock.causes[0]),
        "further": [_cause(cause) for cause in lock.causes[1:]],
    }


def _cause(cause: Cause) -> dict[str, str]:
    return {
        "kind": cause.kind,
        "operator": cause.operator,
        "reason": cause.reason,
        "source": cause.source,
        "layer": cause.layer,
        "remedy": cause.remedy,
    }
