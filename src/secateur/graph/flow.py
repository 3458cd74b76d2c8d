"""What depends on what in a traced program, writes in place included.

The arguments of a call are not all that it reads: an operator that writes over a tensor changes what every
later reader of that tensor sees. Here such a reader also depends on the write, so that ancestors, users and
dead code can be told by walking edges. Views share the storage of what they view.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx

from secateur.graph.modes import count_batch
from secateur.graph.normalise import op_name

# Return their input itself, or may, without saying so in their schema.
_PASSING = frozenset(
    f"aten::{name}" for name in ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "type_as")
)  # fmt: skip

# Read the shape of their input, not its values.
_SHAPES = frozenset(
    f"aten::{name}"
    for name in (
        "sym_size", "sym_numel", "sym_stride", "sym_storage_offset", "new_empty", "new_zeros", "new_ones", "new_full",
        "empty_like", "zeros_like", "ones_like", "full_like", "rand_like", "randn_like",
    )
)  # fmt: skip


class Flow:
    """The edges of a program: ``inputs`` and ``users`` of each node, writes in place included.

    ``order`` is a node's position; ``storage`` the node that made the memory that a node's value lives in;
    ``writes`` the nodes that write over a storage, in order; ``effects`` what must run although nothing reads it:
    the output, and writes to parameters, buffers and inputs.
    """

    def __init__(self, graph: fx.Graph) -> None:
        self.nodes: list[fx.Node] = list(graph.nodes)
        self.order = {node: i for i, node in enumerate(self.nodes)}
        self.inputs: dict[fx.Node, tuple[fx.Node, ...]] = {}
        self.users: dict[fx.Node, list[fx.Node]] = {node: [] for node in self.nodes}
        self.storage: dict[fx.Node, fx.Node] = {}
        self.writes: dict[fx.Node, list[fx.Node]] = {}
        counters: dict[str, fx.Node] = {}
        states: dict[Any, fx.Node] = {}
        counting: set[fx.Node] = set()
        for node in self.nodes:
            read = dict.fromkeys(node.all_input_nodes)
            for given in node.all_input_nodes:
                latest = self.writes.get(self.storage[given], [])
                if latest and self.order[latest[-1]] > self.order[given]:
                    read[latest[-1]] = None
            owner = _statistics(node)
            if node.target is count_batch:  # part of the norm that follows it
                counters[_owner(node.args[0])] = node
            elif owner in counters:
                counting.add(counters[owner])
                read[counters.pop(owner)] = None
            self.inputs[node] = tuple(read)
            for given in read:
                self.users[given].append(node)
            viewed = _viewed(node)
            own = states.setdefault(node.target, node) if node.op == "get_attr" else node
            self.storage[node] = self.storage[viewed] if viewed is not None else own
            for target in _written(node):
                self.writes.setdefault(self.storage[target], []).append(node)
        kept = {m for s, writers in self.writes.items() if s.op != "call_function" for m in writers}
        self.effects = [n for n in self.nodes if n.op == "output" or n in kept - counting]

    @cached_property
    def active(self) -> frozenset[fx.Node]:
        """Nodes with tensors that depend on the program's inputs, not on sizes alone."""
        found: set[fx.Node] = set()
        for node in self.nodes:
            if is_tensor(node) and (node.op == "placeholder" or any(i in found for i in self.inputs[node])):
                found.add(node)
        return frozenset(found)

    def between(self, last: fx.Node, sources: Collection[fx.Node]) -> set[fx.Node]:
        """Nodes on the paths from ``sources`` to ``last``, the latter included, the former not."""
        lowest = min(self.order[s] for s in sources)
        seen, pending = {last}, [last]
        while pending:
            for given in self.inputs[pending.pop()]:
                if self.order[given] > lowest and given not in seen and given not in sources:
                    seen.add(given)
                    pending.append(given)
        found: set[fx.Node] = set()
        for node in sorted(seen, key=self.order.__getitem__):
            read = self.inputs[node]
            if any(i in found for i in read) or (
                op_name(node) not in _SHAPES and any(i in sources for i in read)
            ):
                found.add(node)
        return found

    def only_for(self, lasts: Iterable[fx.Node], keep: Collection[fx.Node] = ()) -> set[fx.Node]:
        """What is dead once nothing reads ``lasts`` any more: these, and all that only they need."""
        found: set[fx.Node] = set()
        first = set(lasts)
        pending = [-self.order[n] for n in first]
        heapq.heapify(pending)
        seen = set(first)
        while pending:
            node = self.nodes[-heapq.heappop(pending)]
            if node not in first and not all(u in found for u in self.users[node]):
                continue
            found.add(node)
            for given in self.inputs[node]:
                if given not in seen and given not in keep and given.op != "placeholder":
                    seen.add(given)
                    heapq.heappush(pending, -self.order[given])
        return found

    def live(self, instead: Mapping[fx.Node, fx.Node] | None = None) -> set[fx.Node]:
        """What the effects need, where some nodes are only another's value (``instead``)."""
        instead = instead or {}
        found: set[fx.Node] = {n for n in self.nodes if n.op == "placeholder"}
        pending = list(self.effects)
        while pending:
            node = pending.pop()
            if node not in found:
                found.add(node)
                pending.extend((instead[node],) if node in instead else self.inputs[node])
        return found


def is_tensor(node: fx.Node) -> bool:
    """Whether a node's value is a tensor, or several; symbolic sizes are not."""
    value = node.meta.get("val")
    return isinstance(value, Tensor) or (
        isinstance(value, (tuple, list)) and any(isinstance(v, Tensor) for v in value)
    )


def _arguments(node: fx.Node) -> Iterable[tuple[Any, fx.Node]]:
    """The tensor arguments of an operator, each with what its schema says of aliasing."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return
    for i, argument in enumerate(schema.arguments):
        given = node.args[i] if i < len(node.args) else node.kwargs.get(argument.name)
        for item in given if isinstance(given, (list, tuple)) else (given,):
            if isinstance(item, fx.Node):
                yield argument.alias_info, item


def _viewed(node: fx.Node) -> fx.Node | None:
    """The argument whose storage the result shares."""
    if op_name(node) in _PASSING or op_name(node) == "getitem":
        first = node.args[0]
        return first if isinstance(first, fx.Node) else None
    schema = getattr(node.target, "_schema", None)
    if schema is None or not any(r.alias_info is not None for r in schema.returns):
        return None
    return next((given for alias, given in _arguments(node) if alias is not None), None)


def _written(node: fx.Node) -> list[fx.Node]:
    """The arguments that a call writes over."""
    if node.target is count_batch:
        return [n for n in node.args[:1] if isinstance(n, fx.Node)]
    return [given for alias, given in _arguments(node) if alias is not None and alias.is_write]


def _statistics(node: fx.Node) -> str:
    """The module whose running statistics a batch norm reads."""
    if isinstance(node.target, torch._ops.OpOverload) and op_name(node) == "aten::batch_norm":
        return _owner(node.args[3])
    return ""


def _owner(state: Any) -> str:
    return f"{str(state.target).rpartition('.')[0]}." if isinstance(state, fx.Node) else ""
