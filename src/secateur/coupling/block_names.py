"""Names of residual branches: that of the smallest module which holds all of a branch's weights and no others.

``blocks.3`` holds attention and MLP, two branches, so each goes down to where its first matrix is:
``blocks.3.attn`` and ``blocks.3.mlp``. Names follow from parameters alone, so a program that was saved and
loaded, and knows no modules, has the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property

import torch
from torch import fx

from secateur.coupling.branches import Branch, passed
from secateur.coupling.repeats import first_uses
from secateur.graph import Flow, Graph


class Names:
    """Names for the branches of one program, each given once."""

    def __init__(self, graph: Graph, flow: Flow) -> None:
        self.graph, self.flow = graph, flow
        self._given: dict[str, int] = {}

    def unique(self, name: str) -> str:
        """The name itself the first time, then ``name#2`` and so on."""
        self._given[name] = self._given.get(name, 0) + 1
        return name if self._given[name] == 1 else f"{name}#{self._given[name]}"

    def of(self, branch: Branch, taken: Collection[str]) -> str:
        """A module that holds the branch's matrices and no others, and is not ``taken``; else its first matrix."""
        nodes = branch.nodes or self.flow.between(branch.term, set(passed(branch.entry)))
        own = self._weights(nodes)
        first = next((n for n in own if self.graph.tensor(n).dim() > 1), own[0])
        path = _common(own) if len(own) > 1 else first.rpartition(".")[0]
        used = {name for node in nodes for name in self._used_at.get(node, ())}
        while path != first:
            if path and path not in taken and not self._shared(path, used):
                return path
            path = ".".join(first.split(".")[: len(path.split(".")) + 1 if path else 1])
        return first

    def _weights(self, nodes: Iterable[fx.Node]) -> list[str]:
        """Parameters that these nodes read, in the order of use: those that nothing else reads, if any."""
        inside = set(nodes)
        read = {i for n in inside for i in (n, *self.flow.inputs[n]) if self._is_parameter(i)}
        own = {str(n.target) for n in read & inside} or {str(n.target) for n in read}
        return sorted(own, key=self._parameters.__getitem__)

    def _shared(self, path: str, used: Collection[str]) -> bool:
        return any(name not in used for name in self._matrices[path])

    @cached_property
    def _matrices(self) -> dict[str, list[str]]:
        """Names of the matrices in each module."""
        found: dict[str, list[str]] = defaultdict(list)
        for name in self._parameters:
            if self.graph.tensor(name).dim() > 1:
                parts = name.split(".")
                for i in range(1, len(parts)):
                    found[".".join(parts[:i])].append(name)
        return found

    @cached_property
    def _used_at(self) -> dict[fx.Node, list[str]]:
        """Parameters and buffers that a node is the first to use together with activations."""
        found: dict[fx.Node, list[str]] = defaultdict(list)
        for name, nodes in first_uses(self.graph, self.flow).items():
            for node in nodes:
                found[node].append(name)
        return found

    @cached_property
    def _parameters(self) -> dict[str, int]:
        """Parameters, with their place in the order of use."""
        flow, found = self.flow, dict[str, int]()
        for node in flow.nodes:
            if self._is_parameter(node) and flow.users[node]:
                found[str(node.target)] = min(flow.order[u] for u in flow.users[node])
        return found

    def _is_parameter(self, node: fx.Node) -> bool:
        if node.op != "get_attr" or node.target == "training":
            return False
        return isinstance(self.graph.tensor(str(node.target)), torch.nn.Parameter)


def _common(names: Sequence[str]) -> str:
    """The longest module path that all of these parameters lie under."""
    parts = [n.split(".")[:-1] for n in names]
    shared = []
    for pieces in zip(*parts, strict=False):
        if len(set(pieces)) > 1:
            break
        shared.append(pieces[0])
    return ".".join(shared)
