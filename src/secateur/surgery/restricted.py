"""Arguments of an operator that is evaluated on the kept positions alone, found without asking the cut program."""

from __future__ import annotations

from typing import Any

from torch import fx

from secateur.coupling import Coupling, bind
from secateur.graph import op_name
from secateur.surgery.sizes import Sizes


def sizes_of_kept(node: fx.Node, args: Any, coupling: Coupling, sizes: Sizes) -> dict[str, Any]:
    """Arguments that hold sizes, for the kept positions of a norm, an attention or an operator that was taught."""
    given, kind = bind(node), op_name(node)
    taught = coupling.operators.get(kind)
    if taught is not None and taught.sizes:
        notes = coupling.facts.notes.get(node, {})
        axes = taught.axes_of_sizes(node, coupling.values, notes)
        return {name: sizes.of(axis) for name, axis in axes.items()}
    if kind in ("aten::layer_norm", "aten::rms_norm"):
        count = len(given["normalized_shape"])
        return {"normalized_shape": list(args[0].shape[-count:])}
    if kind == "aten::group_norm":
        channel = coupling.values[given["input"]][1]
        kept = sizes.indices(channel) // (len(channel) // given["num_groups"])
        return {"num_groups": len(kept.unique())}
    if kind == "aten::scaled_dot_product_attention" and given["scale"] is None:
        return {"scale": len(coupling.values[given["query"]][-1]) ** -0.5}
    return {}
