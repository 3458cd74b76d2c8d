"""Checks that the program computes what the user's model does, before anything is built on it.

Everything after this compares with the program; only here is the model itself the judge.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from secateur.errors import NotExportable
from secateur.graph.shapes import shapes_alone

TOLERANCE = {torch.float16: 5e-2, torch.bfloat16: 1e-1}


def check_faithful(model: nn.Module, program: fx.GraphModule, args: Any, kwargs: Any) -> None:
    """Runs both in evaluation mode on the example inputs and compares every output; not where there are only shapes.

    The program's code is written for this: nothing else calls it.

    Raises:
        NotExportable: an output differs by more than a thousandth of its scale (more in half precision).
    """
    program.recompile()
    if shapes_alone(model):
        return  # nothing to run
    with torch.no_grad():
        expected = _outputs(model, args, kwargs)
        found = _outputs(program, args, kwargs)
    if len(expected) != len(found):
        raise NotExportable(
            f"the exported program returns {len(found)} tensors, the model {len(expected)}; "
            "make what it returns independent of the mode of export"
        )
    for position, (theirs, ours) in enumerate(zip(expected, found, strict=True)):
        error = _difference(theirs, ours)
        if not error <= TOLERANCE.get(theirs.dtype, 1e-3):
            raise NotExportable(
                f"the exported program differs from the model by {error:.2g} at output {position}; look for code that "
                "depends on random numbers, on an earlier call or on whether it is being exported"
            )


def _outputs(module: Any, args: Any, kwargs: Any) -> list[Tensor]:
    args, kwargs = copy.deepcopy((args, kwargs))  # a model may write over its inputs and its buffers
    buffers = {name: b.clone() for name, b in module.named_buffers()}
    outputs = _plain(torch.func.functional_call(module, buffers, args, kwargs))
    return [t for t in pytree.tree_leaves(outputs) if isinstance(t, Tensor)]


def _plain(outputs: Any) -> Any:
    return dict(outputs) if hasattr(outputs, "items") and not isinstance(outputs, dict) else outputs


def _difference(theirs: Tensor, ours: Tensor) -> float:
    if theirs.shape != ours.shape:
        return float("inf")
    if not theirs.is_floating_point():
        return 0.0 if torch.equal(theirs, ours.to(theirs.dtype)) else float("inf")
    finite = torch.isfinite(theirs)
    if not torch.equal(finite, torch.isfinite(ours)):
        return float("inf")
    if not bool(finite.any()):
        return 0.0
    theirs, ours = theirs[finite].double(), ours[finite].double()
    return float((theirs - ours).abs().max() / theirs.abs().max().clamp_min(1e-30))
