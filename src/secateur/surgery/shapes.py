"""The check of a cut that has shapes alone: the program runs on the meta device, and every node has the size it should.

No value is compared, and the verification says so.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from secateur.coupling import Groups, Value
from secateur.errors import NotVerified
from secateur.surgery.emit import Emitted
from secateur.surgery.verify import Verification

WORDS = "the size of every value alone: the model is on the meta device, no value was compared"


def check_shapes(groups: Groups, emitted: Emitted) -> Verification:
    """Runs a cut program on shapes.

    Raises:
        NotVerified: it does not run, or a node has another size than the plan leaves it; names the node.
    """
    graph = groups.graph
    flat, _ = pytree.tree_flatten((graph.args, dict(graph.kwargs)))
    run = _Sizes(groups, emitted)
    with torch.no_grad():
        run.run(*flat, enable_io_processing=False)
    return Verification(math.nan, "shapes", WORDS, run.compared, "-", math.nan)


class _Sizes(fx.Interpreter):
    def __init__(self, groups: Groups, emitted: Emitted) -> None:
        super().__init__(emitted.module)
        self.sizes, self.values = emitted.sizes, groups.coupling.values
        self.origins = {new: old for old, new in emitted.nodes.items()}
        self.compared = 0

    def run_node(self, n: fx.Node) -> Any:
        """Also compares sizes."""
        try:
            result = super().run_node(n)
        except Exception as error:
            words = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise NotVerified(f"the cut program does not run at {n.name}: {words[:200]}", n.name) from error
        value = self.values.get(self.origins.get(n))  # type: ignore[arg-type]
        items = value if isinstance(value, list) else [value]
        found = list(result) if isinstance(result, (tuple, list)) else [result]
        for axes, tensor in zip(items, found, strict=False):
            if isinstance(axes, Value) and isinstance(tensor, Tensor):
                self._compare(n, axes, tuple(tensor.shape))
        return result

    def _compare(self, node: fx.Node, value: Value, found: tuple[int, ...]) -> None:
        self.compared += 1
        expected = self.sizes.shape(value.axes)
        if found != expected:
            raise NotVerified(f"{node.name} has sizes {found}; the plan leaves {expected}", node.name)
