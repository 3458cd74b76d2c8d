"""Where a class that came out wrong takes another number than the cut program: it is exported and laid beside it."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from torch import fx, nn

from secateur.coupling import source_of
from secateur.graph import Graph, flat_arguments, op_name, trace


@dataclass(frozen=True)
class Deviation:
    """A call for which the class computes another number than the cut program holds.

    Args:
        node: in the program before the cut.
        own: the class's number.
        needed: the cut program's.
    """

    node: fx.Node
    own: float
    needed: float

    def __str__(self) -> str:
        name = op_name(self.node).removeprefix("aten::")
        return f"the class gives {name} {self.own:g} at {source_of(self.node)}, the cut needs {self.needed:g}"


def deviations(module: nn.Module, small: fx.GraphModule, graph: Graph) -> list[Deviation]:
    """All of them, in order; none where the class does not run or is not laid beside the program.

    Args:
        module: the class, cut.
        small: the cut program.
        graph: the program before the cut.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            own = trace(module, dict(graph.kwargs) if graph.kwargs else graph.args)
        except Exception:
            return []
    before = {n.name: n for n in graph.nodes if n.op == "call_function"}
    found = []
    for ours, theirs in _pairs(own.module.graph, small.graph):
        node = before.get(theirs.name)
        if node is None or op_name(node) != op_name(theirs):
            continue
        pair = zip(flat_arguments(ours), flat_arguments(theirs), strict=False)
        for mine, needed in pair:
            if _differ(mine, needed):
                found.append(Deviation(node, mine, needed))
                break
    return found


def _pairs(one: fx.Graph, other: fx.Graph) -> Iterator[tuple[fx.Node, fx.Node]]:
    """Calls that stand for each other, by the sequence of operators."""
    left, right = ([n for n in g.nodes if n.op == "call_function"] for g in (one, other))
    ours, theirs = ([op_name(n) for n in nodes] for nodes in (left, right))
    for a, b, size in difflib.SequenceMatcher(None, ours, theirs, autojunk=False).get_matching_blocks():
        yield from zip(left[a : a + size], right[b : b + size], strict=True)


def _differ(mine: object, needed: object) -> bool:
    plain = (int, float)
    if not isinstance(mine, plain) or not isinstance(needed, plain) or isinstance(mine, bool):
        return False
    return abs(mine - needed) > 1e-6 * abs(needed)
