"""What a program becomes when blocks are removed: what stands where, what is dead, which tensors go.

Dropping a term from a sum leaves the other operand; where all operands go, the sum itself is dropped from the
next. A bypassed block's output is its input. Everything that then no output needs is gone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from torch import fx

from secateur.coupling.branches import PASSES, PRODUCTS, SUMS
from secateur.graph import Flow, Graph, bind, fetch, op_name

if TYPE_CHECKING:
    from secateur.coupling.blocks import Block


@dataclass(frozen=True)
class Removal:
    """Blocks removed from a program, and what follows from it; by default none.

    Args:
        blocks: what was asked for, branches of whole blocks included.
        dropped: arguments of calls that count as zero: the terms of removed branches.
        bypassed: outputs of removed blocks, with what comes in in their place.
        stands: nodes that stand for another one, and for which.
        instead: those of them that are needed: they only hand on the other's value now.
        copied: those of them that must be copies, since one of the two is written over later.
        gone: nodes that nothing needs any more.
        unseen: those of them inside bypassed blocks.
        state: tensors that only these read, by name.
        unread: those of ``gone`` and of ``state`` that nothing read to begin with: they were never part of the program,
            only of the class.
    """

    blocks: tuple[Block, ...] = ()
    dropped: Mapping[fx.Node, frozenset[str]] = field(default_factory=dict)
    bypassed: Mapping[fx.Node, fx.Node] = field(default_factory=dict)
    stands: Mapping[fx.Node, fx.Node] = field(default_factory=dict)
    instead: Mapping[fx.Node, fx.Node] = field(default_factory=dict)
    copied: frozenset[fx.Node] = frozenset()
    gone: frozenset[fx.Node] = frozenset()
    unseen: frozenset[fx.Node] = frozenset()
    state: frozenset[str] = frozenset()
    unread: frozenset[fx.Node | str] = frozenset()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of what was asked for, sorted."""
        return tuple(sorted(b.name for b in self.blocks))

    def renamed(self, nodes: Mapping[fx.Node, fx.Node]) -> Removal:
        """The same removal for a copy of the program; ``blocks`` stay those of the original."""
        return replace(
            self,
            dropped={nodes[n]: names for n, names in self.dropped.items()},
            bypassed={nodes[n]: nodes[other] for n, other in self.bypassed.items()},
            stands={nodes[n]: nodes[other] for n, other in self.stands.items()},
            instead={nodes[n]: nodes[other] for n, other in self.instead.items()},
            copied=frozenset(nodes[n] for n in self.copied),
            gone=frozenset(nodes[n] for n in self.gone),
            unseen=frozenset(nodes[n] for n in self.unseen),
            unread=frozenset(n if isinstance(n, str) else nodes[n] for n in self.unread),
        )


def removal_of(graph: Graph, blocks: Iterable[Block], every: Iterable[Block]) -> Removal:
    """What follows from removing some of a program's blocks.

    Args:
        graph: the program.
        blocks: those to remove.
        every: all blocks of the program, to look up branches by name.
    """
    flow, by_name = Flow(graph.module.graph), {b.name: b for b in every}
    asked = tuple(blocks)
    terms = [by_name[n] for b in asked if b.whole for n in b.branches]
    terms += [b for b in asked if b.kind == "branch"]
    dropped = {(b.reader, b.argument) for b in terms if b.reader is not None}
    bypassed: dict[fx.Node, fx.Node] = {}
    for block in sorted(asked, key=lambda b: flow.order[b.exit]):
        if block.kind == "block" and not block.whole:  # what comes in may be the output of another that went
            bypassed[block.exit] = bypassed.get(block.entry, block.entry)
    shortcuts = {b.exit: b.entry for b in asked if b.whole}
    stands = standing(flow.nodes, dropped, {**bypassed, **shortcuts})
    live = flow.live(stands)
    gone = flow.live() - live
    instead = {n: other for n, other in stands.items() if n in live}
    by_reader: dict[fx.Node, set[str]] = {}
    for reader, argument in dropped:
        by_reader.setdefault(reader, set()).add(argument)
    return Removal(
        blocks=asked,
        dropped={n: frozenset(a) for n, a in by_reader.items()},
        bypassed=bypassed,
        stands=stands,
        instead=instead,
        copied=frozenset(_written_later(flow, instead, gone)),
        gone=frozenset(gone),
        unseen=frozenset(n for b in asked if b.exit in bypassed for n in b.nodes if n in gone),
        state=frozenset(state_of(graph, gone)),
    )


def standing(
    nodes: Iterable[fx.Node],
    dropped: Collection[tuple[fx.Node, str]],
    bypassed: Mapping[fx.Node, fx.Node] | None = None,
) -> dict[fx.Node, fx.Node]:
    """Which node each sum, gate or bypassed output stands for, once terms count as zero.

    Args:
        nodes: in the order of the program.
        dropped: calls and the names of their arguments that count as zero.
        bypassed: further nodes that stand for others.
    """
    bypassed = bypassed or {}
    found: dict[fx.Node, fx.Node] = {}
    zero, one = set[fx.Node](), set[fx.Node]()
    readers = {reader for reader, _ in dropped}
    for node in nodes:
        if node in bypassed:
            found[node] = found.get(bypassed[node], bypassed[node])
            continue
        if node not in readers and not any(i in zero or i in one for i in node.all_input_nodes):
            continue
        kind = op_name(node)
        if kind in PASSES and node.args[0] in zero:
            zero.add(node)
        if kind not in SUMS and kind not in PRODUCTS:
            continue
        given = {a: v for a, v in bind(node).items() if a in ("self", "other")}
        if kind in PRODUCTS:
            rest = [v for v in given.values() if v not in one]
            if len(rest) == 1 and isinstance(rest[0], fx.Node):
                found[node] = found.get(rest[0], rest[0])
            continue
        rest = [v for a, v in given.items() if (node, a) not in dropped and v not in zero]
        if not rest:
            zero.add(node)
        elif len(rest) == 1 and isinstance(rest[0], fx.Node):
            found[node] = found.get(rest[0], rest[0])
        elif rest == [1]:
            one.add(node)
    return found


def state_of(
    graph: Graph, nodes: Collection[fx.Node], holders: Mapping[int, set[fx.Node]] | None = None
) -> set[str]:
    """Names of the tensors that only these nodes read; a tied one only if all of its names are among them.

    Args:
        graph: the program.
        nodes: any of its nodes.
        holders: from :func:`holders_of`, for whoever asks often.
    """
    holders = holders_of(graph) if holders is None else holders
    inside = [n for n in nodes if n.op == "get_attr" and n.target != "training"]
    names = {str(n.target) for n in inside}
    whole = set(inside)
    return {name for name in names if holders.get(id(graph.tensor(name)), whole) <= whole}


def holders_of(graph: Graph) -> dict[int, set[fx.Node]]:
    """The nodes that fetch each tensor, by the tensor's identity."""
    found: dict[int, set[fx.Node]] = {}
    for node in graph.module.graph.nodes:
        if node.op == "get_attr" and node.target != "training":
            found.setdefault(id(fetch(graph.module, str(node.target))), set()).add(node)
    return found


def _written_later(
    flow: Flow, instead: Mapping[fx.Node, fx.Node], gone: Collection[fx.Node]
) -> Iterable[fx.Node]:
    """Nodes that were a tensor of their own, would become another's, and of which one is written over later."""
    for node, other in instead.items():
        if flow.storage[node] is flow.storage[other]:
            continue
        writes = [*flow.writes.get(flow.storage[node], ()), *flow.writes.get(flow.storage[other], ())]
        if any(flow.order[w] > flow.order[node] and w not in gone and w not in instead for w in writes):
            yield node
