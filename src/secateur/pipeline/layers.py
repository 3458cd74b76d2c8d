"""Layer by layer: what a plan left of it, as the plain data of ``layers.json``."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from secateur.cost import Macs, Params, layer_of
from secateur.coupling import Groups, bind
from secateur.graph import op_name
from secateur.planning import Plan, dead_atoms, without_removed
from secateur.sparsity import count_zeros


def layers(groups: Groups, plan: Plan | None, model: nn.Module | None = None) -> list[dict[str, Any]]:
    """The content of ``layers.json``, in order of execution.

    Units are the outputs of a layer's weight. Sparsity is the share of zeros in the weight of ``model``, what the
    plan left; the share of the latency is not measured.
    """
    everything = np.ones(groups.coupling.facts.size, dtype=bool)
    left = groups if plan is None else without_removed(groups, plan)
    alive = everything if plan is None else left.coupling.alive(dead_atoms(left, plan))
    before, after = _counts(groups, everything), _counts(left, alive)
    operators = _operators(groups)
    zeros = count_zeros(model) if model is not None else {}
    rows = []
    for name in dict.fromkeys([*before[0], *before[1]]):
        axes = groups.coupling.state_axes.get(f"{name}.weight")
        units = axes[0] if axes else None
        gone = f"{name}.weight" in left.removal.state
        rows.append(
            {
                "name": name,
                "operator": operators.get(name, "-"),
                "params_before": round(before[0].get(name, 0.0)),
                "params_after": round(after[0].get(name, 0.0)),
                "macs_before": round(before[1].get(name, 0.0)),
                "macs_after": round(after[1].get(name, 0.0)),
                "units_before": None if units is None else len(units),
                "units_after": None
                if units is None
                else 0
                if gone
                else int(left.coupling.keep(units, alive).sum()),
                "sparsity": zeros[f"{name}.weight"].share if f"{name}.weight" in zeros else 0.0,
                "latency_share": None,
            }
        )
    return rows


def _counts(groups: Groups, alive: np.ndarray) -> tuple[dict[str, float], dict[str, float]]:
    """Parameters and multiply-adds by layer."""
    params, macs = Params(groups.graph).bind(groups), Macs(groups.graph).bind(groups)
    return params.by_layer(alive), macs.by_layer(alive)


def _operators(groups: Groups) -> dict[str, str]:
    found: dict[str, str] = {}
    for node in groups.graph.nodes:
        if node.op == "call_function" and isinstance(bind(node).get("weight"), type(node)):
            found.setdefault(layer_of(node), op_name(node).removeprefix("aten::"))
    return found
