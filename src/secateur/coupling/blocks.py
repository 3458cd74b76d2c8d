"""Blocks: what can be removed whole, as units beside channels and heads.

A *branch* is a term of a sum that goes on without it: ``x + f(x)`` becomes ``x``. A *block* is one of several
equal layers with one way in and one way out, whose output its input can stand in for. Both are found in the
graph alone, whatever the modules are called; see ``branches.py`` and ``repeats.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import fx

from secateur.coupling.block_names import Names
from secateur.coupling.branches import VIEWS, Branch, find_branches, form
from secateur.coupling.bypass import holders_of, standing, state_of
from secateur.coupling.locks import source_of
from secateur.coupling.repeats import Element, Repeats
from secateur.graph import Flow, Graph, op_name


@dataclass(frozen=True)
class Block:
    """A part of the program that can be removed whole, or a candidate that cannot.

    Args:
        name: the module that holds all of its weights, ``"layer1.1"`` or ``"blocks.3.attn"``, else a parameter; a
            further use of the same weights is ``"name#2"``.
        kind: ``"branch"`` for a term of a sum, ``"block"`` for one of several equal layers.
        entry: the value that goes on in its place.
        exit: the sum, or the block's output.
        nodes: what goes with it, in order; nothing for a candidate that is locked.
        params: parameters and buffers that go with it: those that nothing else reads.
        parameters: how many numbers the parameters among these hold.
        source: file and line of the user's code.
        locked: why it cannot go; empty if it can.
        branches: for a block, the residual branches that it is made of, by name.
        whole: for a block, whether removing these branches is all there is to removing it.
        term: for a branch, the value that is added.
        reader: for a branch, the call that adds it.
        argument: for a branch, the name of the term's argument in that call.
    """

    name: str
    kind: str
    entry: fx.Node
    exit: fx.Node
    nodes: tuple[fx.Node, ...]
    params: tuple[str, ...]
    parameters: int
    source: str
    locked: tuple[str, ...] = ()
    branches: tuple[str, ...] = ()
    whole: bool = False
    term: fx.Node | None = None
    reader: fx.Node | None = None
    argument: str = ""


class Traced(Protocol):
    """What holds a traced program: groups, say."""

    @property
    def graph(self) -> Graph:
        """The program."""
        ...


def find_blocks(traced: Graph | Traced) -> tuple[Block, ...]:
    """Finds residual branches and repeated blocks.

    Args:
        traced: from :func:`secateur.trace`, or the groups found on it.

    Returns:
        What can be removed whole, in the order of the program, and what looks like it but cannot, with the reason in
        ``locked``. A block that is one residual branch and an activation is listed as that branch.
    """
    return _Finder(traced if isinstance(traced, Graph) else traced.graph).run()


class _Finder:
    def __init__(self, graph: Graph) -> None:
        self.graph, self.flow = graph, Flow(graph.module.graph)
        self.branches = find_branches(graph, self.flow)
        self.repeats = Repeats(graph, self.flow, self.branches)
        self.names = Names(graph, self.flow)
        self.holders = holders_of(graph)

    def run(self) -> tuple[Block, ...]:
        named: dict[fx.Node, str] = {}
        blocks: list[Element] = []
        for element in self._elements:
            held = self._branches_in(element)
            if len(held) == 1 and self._weights(element) <= state_of(self.graph, held[0].nodes, self.holders):
                named[held[0].term] = element.path  # a branch, and after it nothing that has weights
            elif element.entry is not None:
                blocks.append(element)
        paths = {e.path for e in blocks}
        found = {b.term: self._branch(b, named.get(b.term) or self.names.of(b, paths)) for b in self.branches}
        out = [*found.values()]
        out += [self._block(e, [found[b.term].name for b in self._branches_in(e)]) for e in blocks]
        out += self._locked(out)
        order = self.flow.order
        return tuple(sorted(out, key=lambda b: (order[b.entry], b.kind != "block", order[b.exit])))

    @cached_property
    def _elements(self) -> list[Element]:
        """Elements of lists that resemble another one, and those that are nothing but residual branches."""
        found = []
        for home, elements in self.repeats.elements.items():
            branched = [e for e in elements if self._branches_in(e)]
            repeated = self.repeats.repeated(home, [e.path for e in branched])
            paths = {e.path for e in repeated}
            unlike = [self.repeats.alone(e) for e in branched if e.path not in paths]
            found += [*repeated, *(e for e in unlike if self._is_whole(e))]
        return found

    def _branches_in(self, element: Element) -> list[Branch]:
        """The branches that end inside an element's span; those inside of another one are left out."""
        if element.span is None:
            return []
        nodes = element.span.nodes
        held = [b for n in nodes if (b := self._by_term.get(n)) and not b.reasons and b.reader in nodes]
        held.sort(key=lambda b: self.flow.order[b.term])
        return [b for b in held if not any(b.term in o.nodes for o in held if o is not b)]

    def _is_whole(self, element: Element) -> bool:
        """Whether without its branches an element hands on what comes in."""
        if element.span is None or element.entry is None:
            return False
        dropped = {(b.reader, b.argument) for b in self._branches_in(element)}
        ordered = sorted(element.span.nodes, key=self.flow.order.__getitem__)
        return _hands_on(element.span.exit, element.entry, standing(ordered, dropped))

    @cached_property
    def _by_term(self) -> dict[fx.Node, Branch]:
        return {b.term: b for b in self.branches}

    @staticmethod
    def _weights(element: Element) -> set[str]:
        return {f"{element.path}.{name}" for name in element.parameters}

    def _block(self, element: Element, branches: Sequence[str]) -> Block:
        assert element.span is not None and element.entry is not None
        exit, entry = element.span.exit, element.entry
        gone = self.flow.only_for([exit], keep={entry})
        record = self._record(element.path, "block", entry, exit, gone)
        return replace(record, branches=tuple(branches), whole=self._is_whole(element))

    def _branch(self, branch: Branch, name: str) -> Block:
        record = self._record(name, "branch", branch.entry, branch.exit, branch.nodes, branch.reasons)
        return replace(record, term=branch.term, reader=branch.reader, argument=branch.argument)

    def _locked(self, found: Sequence[Block]) -> list[Block]:
        """Elements beside removable ones, in the same list, that cannot go."""
        free = [b.name for b in found if not b.locked]
        named = {b.name for b in found}
        paths = {e.path for elements in self.repeats.elements.values() for e in elements}
        holding = {next((p for p in _modules(n) if p in paths), "") for n in free}
        out = []
        for elements in self.repeats.elements.values():
            beside = [e for e in elements if e.path in holding]
            for element in elements if beside else ():
                if element in beside or element.path in named:
                    continue
                told = self.repeats.alone(element)
                if told.reason and told.span:
                    exit = told.span.exit
                    out.append(self._record(told.path, "block", exit, exit, (), (told.reason,)))
        return out

    def _record(
        self,
        name: str,
        kind: str,
        entry: fx.Node,
        exit: fx.Node,
        nodes: Collection[fx.Node],
        locked: Iterable[str] = (),
    ) -> Block:
        params = tuple(sorted(state_of(self.graph, nodes, self.holders)))
        tensors = {id(self.graph.tensor(n)): self.graph.tensor(n) for n in params}
        count = sum(t.numel() for t in tensors.values() if isinstance(t, torch.nn.Parameter))
        ordered = tuple(sorted(nodes, key=self.flow.order.__getitem__))
        unique = self.names.unique(name)
        return Block(unique, kind, entry, exit, ordered, params, count, source_of(exit), tuple(locked))


def _modules(name: str) -> Iterator[str]:
    """A module and those that it is in, from the inside out."""
    while name:
        yield name
        name = name.rpartition(".")[0]


def _hands_on(exit: fx.Node, entry: fx.Node, instead: Mapping[fx.Node, fx.Node]) -> bool:
    """Whether a value is another of its form, seen in other shapes on the way and cast to its own type."""
    node = instead.get(exit, exit)
    while node is not entry and node.op == "call_function" and isinstance(given := node.args[0], fx.Node):
        cast = op_name(node) in ("aten::to", "aten::_to_copy") and form(node) == form(given)
        if not cast and op_name(node) not in VIEWS:
            return False
        node = instead.get(given, given)
    return node is entry
