"""Sizes that follow from values, such as the number of boxes that pass a threshold.

The exporter leaves them without a hint. The program is run once on the example inputs, and each such size is told
what it came to there. They are like the batch: symbolic in the program, a number in the analysis.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from secateur.errors import NotExportable
from secateur.graph.shapes import shapes_alone


def hint_sizes(module: fx.GraphModule, args: Any, kwargs: Any) -> None:
    """Gives every size in ``node.meta["val"]`` a hint, from one run on the example inputs if any lacks it.

    Raises:
        NotExportable: there is one, and the model has shapes alone: it cannot be run.
    """
    unknown = next((n for n in module.graph.nodes for known in _hints(n) if known is None), None)
    if unknown is None:
        return
    if shapes_alone(module):
        raise NotExportable(
            f"the size of {unknown.name} follows from values, and a model on the meta device has none; "
            "trace it with its weights, or the part of it that comes before"
        )
    flat, _ = pytree.tree_flatten((args, dict(kwargs)))
    with torch.no_grad():
        _Watched(module).run(*pytree.tree_map_only(Tensor, torch.clone, flat), enable_io_processing=False)


def _hints(node: fx.Node) -> Iterator[Any]:
    for size in _sizes(node.meta.get("val")):
        yield size.node.hint


def _sizes(value: Any) -> Iterator[torch.SymInt]:
    for leaf in (value,) if isinstance(value, Tensor) else pytree.tree_leaves(value):
        for size in leaf.shape if isinstance(leaf, Tensor) else [leaf]:
            if isinstance(size, torch.SymInt):
                yield size


class _Watched(fx.Interpreter):
    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        value = super().get_attr(target, args, kwargs)
        # A program may write to a buffer, and this is the user's own.
        return value.clone() if isinstance(value, Tensor) and not isinstance(value, nn.Parameter) else value

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        for fake, real in zip(
            pytree.tree_leaves(n.meta.get("val")), pytree.tree_leaves(result), strict=False
        ):
            pairs = zip(fake.shape, real.shape, strict=True) if isinstance(fake, Tensor) else [(fake, real)]
            for size, number in pairs:
                if isinstance(size, torch.SymInt) and size.node.hint is None:
                    size.node._hint = int(number)
        return result
