"""Residual branches: terms of a sum that depend on another term of it.

In ``x + f(x)`` the sum goes on without ``f(x)``, whatever ``f`` is. Sums of several terms are taken apart first,
so that attention and MLP of a parallel block are two branches; ``x * (1 + f(x))`` counts too. A branch may read
other values (masks, rotary tables, an encoder's states). Nothing else may read what it computes on the way,
other branches of the same sum excepted, which share a norm, say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import fx

from secateur.graph import Flow, Graph, bind, fetch, is_tensor, op_name

SUMS = frozenset(f"aten::{name}" for name in ("add", "add_", "sub", "sub_"))
PRODUCTS = frozenset(f"aten::{name}" for name in ("mul", "mul_"))

# Keep all values and their order.
VIEWS = frozenset(
    f"aten::{name}"
    for name in (
        "view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "contiguous", "alias",
        "clone",
    )
)  # fmt: skip
# Move or convert values, and compute nothing: the stream may pass through them on its way to the sum.
PASSES = VIEWS | {
    f"aten::{name}" for name in ("to", "_to_copy", "detach", "dropout", "permute", "transpose", "movedim")
}


@dataclass(frozen=True)
class Branch:
    """A term of a sum that can be left out, or could if there were no ``reasons``.

    Args:
        term: what the branch computes.
        reader: the call that adds it; without the term it would pass on its other operand.
        argument: the term's argument in that call.
        entry: the stream that the term is added to.
        exit: the sum.
        nodes: what only this branch needs.
        reasons: why it cannot go.
    """

    term: fx.Node
    reader: fx.Node
    argument: str
    entry: fx.Node
    exit: fx.Node
    nodes: frozenset[fx.Node]
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Term:
    """A term of a sum: ``plain`` if it enters as it is, ``droppable`` if its reader is the rest without it."""

    node: fx.Node
    reader: fx.Node
    argument: str
    plain: bool
    droppable: bool


@dataclass
class _Sum:
    root: fx.Node
    terms: list[_Term] = field(default_factory=list)


def find_branches(graph: Graph, flow: Flow) -> list[Branch]:
    """Residual branches of a program, in the order of their sums; those that hold no parameter are left out."""
    found: list[Branch] = []
    for total in _sums(flow):
        taken: set[fx.Node] = set()
        streams = sorted((t for t in total.terms if t.plain), key=lambda t: flow.order[t.node])
        for stream in streams:
            before = set(passed(stream.node))
            lowest = min(flow.order[n] for n in before)
            computed = {
                term: nodes
                for term in total.terms
                if term.droppable and term is not stream and flow.order[term.node] > lowest
                if term.node not in before
                if (nodes := flow.between(term.node, before))
            }
            for term in computed:
                if term.node not in taken and (branch := _branch(flow, total, stream, term, computed)):
                    taken.add(term.node)
                    if reads_parameters(graph, flow, branch.nodes or computed[term]):
                        found.append(branch)
    return found


def reads_parameters(graph: Graph, flow: Flow, nodes: frozenset[fx.Node] | set[fx.Node]) -> bool:
    """Whether any of these nodes reads a parameter of the model."""
    return any(
        i.op == "get_attr" and isinstance(fetch(graph.module, str(i.target)), torch.nn.Parameter)
        for n in nodes
        for i in (n, *flow.inputs[n])
    )


def _sums(flow: Flow) -> Iterator[_Sum]:
    for node in flow.nodes:
        if _operands(node) and not _goes_into_a_sum(flow, node):
            total = _Sum(node)
            _take_apart(flow, node, True, total.terms)
            yield total
        elif node.op == "call_function" and op_name(node) in PRODUCTS and (gated := _gate(flow, node)):
            yield gated


def _operands(node: fx.Node) -> dict[str, fx.Node]:
    """The two tensors that a call adds or subtracts; nothing for other calls."""
    if node.op != "call_function" or op_name(node) not in SUMS or not is_tensor(node):
        return {}
    given = bind(node)
    found = {n: given[n] for n in ("self", "other") if isinstance(given[n], fx.Node) and is_tensor(given[n])}
    return found if len(found) == 2 else {}


def _goes_into_a_sum(flow: Flow, node: fx.Node) -> bool:
    """Whether a sum is only part of a larger one, to which it may be handed through views and dropout."""
    users = flow.users[node]
    while len(users) == 1 and users[0].op == "call_function" and op_name(users[0]) in PASSES:
        node, users = users[0], flow.users[users[0]]
    return len(users) == 1 and node in _operands(users[0]).values()


def _take_apart(flow: Flow, node: fx.Node, plain: bool, terms: list[_Term]) -> None:
    unscaled = bind(node).get("alpha", 1) == 1
    added = unscaled and op_name(node) in ("aten::add", "aten::add_")
    for argument, operand in _operands(node).items():
        still = plain and (argument == "self" or added)
        inner = next((n for n in passed(operand) if op_name(n) not in PASSES), operand)
        if _operands(inner) and _goes_into_a_sum(flow, inner):
            _take_apart(flow, inner, still, terms)
        else:
            terms.append(_Term(operand, node, argument, still, argument == "other" or added))


def _gate(flow: Flow, node: fx.Node) -> _Sum | None:
    """``x * (1 + f)``: without ``f``, ``x``."""
    given = bind(node)
    for stream, gate in (("self", "other"), ("other", "self")):
        one = given[gate]
        if (
            not isinstance(one, fx.Node)
            or flow.users[one] != [node]
            or not isinstance(given[stream], fx.Node)
        ):
            continue
        if one.op == "call_function" and op_name(one) in ("aten::add", "aten::add_"):
            inside = bind(one)
            if isinstance(inside["self"], fx.Node) and inside["other"] == 1 and inside.get("alpha", 1) == 1:
                terms = [
                    _Term(given[stream], node, stream, True, False),
                    _Term(inside["self"], one, "self", False, True),
                ]
                return _Sum(node, terms)
    return None


def passed(node: fx.Node) -> Iterator[fx.Node]:
    """A value and what it was before it was only moved or converted."""
    yield node
    while node.op == "call_function" and op_name(node) in PASSES and isinstance(node.args[0], fx.Node):
        node = node.args[0]
        yield node


def _branch(
    flow: Flow, total: _Sum, stream: _Term, term: _Term, computed: dict[_Term, set[fx.Node]]
) -> Branch | None:
    """The branch that ends in ``term``; None where another needs all of it, or the sum is larger than the stream."""
    if not _same_form(stream.node, total.root) or not _fits(term):
        return None
    region = set().union(*computed.values())
    readers = {t.node: t.reader for t in computed}
    escapes = [
        (node, user)
        for node in sorted(computed[term], key=flow.order.__getitem__)
        for user in flow.users[node]
        if user not in region and readers.get(node) is not user
    ]
    reasons = [_escape(node, user) for node, user in escapes[:1]]
    if reasons:
        return Branch(
            term.node, term.reader, term.argument, stream.node, total.root, frozenset(), tuple(reasons)
        )
    if flow.users[term.node] != [term.reader]:
        return None
    nodes = frozenset(flow.only_for([term.node]))
    return Branch(term.node, term.reader, term.argument, stream.node, total.root, nodes)


def _other(term: _Term) -> fx.Node:
    return next(n for a, n in _operands(term.reader).items() if a != term.argument)


def _fits(term: _Term) -> bool:
    """Whether an inner sum keeps its shape without the term; a gate's ``1 + f`` becomes the number one."""
    return not _operands(term.reader) or _same_form(_other(term), term.reader)


def _same_form(one: fx.Node, two: fx.Node) -> bool:
    return form(one) == form(two)


def form(node: fx.Node) -> tuple[tuple[str, ...], torch.dtype] | None:
    """Shape, symbolic sizes as they are written, and type of a node's tensor."""
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor):
        return None
    return tuple(str(n) for n in value.shape), value.dtype


def _escape(node: fx.Node, user: fx.Node) -> str:
    if user.op == "output":
        return f"its value {node.name} is also an output of the model; have the model return less"
    return f"its value {node.name} is also read by {user.name}, outside of it"
