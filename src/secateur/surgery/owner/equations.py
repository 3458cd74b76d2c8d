"""What the user's code computes must be what the cut program holds: one equation for each number.

The left side is where a number comes from (an attribute, a size, arithmetic on them, or a literal in the code), the
right side what it becomes. With symbolic sizes the equations tie groups before anything is chosen; with the sizes
of a plan they give each attribute's new value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from torch import fx

from secateur.coupling import Groups, Value, literal_indices, place_of
from secateur.graph import Attribute, Length, Probe, Use, bind, flat_arguments, leaves, op_name
from secateur.surgery.emit import rewrite
from secateur.surgery.owner.standard import expressions
from secateur.surgery.owner.statements import statement_at
from secateur.surgery.owner.whole import seen_again
from secateur.surgery.sizes import Sizes

_SPLITS = frozenset(
    f"aten::{n}"
    for n in ("split", "split_with_sizes", "chunk", "tensor_split", "unsafe_chunk", "unsafe_split")
)
_EVEN = frozenset(("chunk", "tensor_split", "unsafe_chunk"))


@dataclass(frozen=True)
class Strict:
    """What is not trusted at a second attempt.

    Args:
        nodes: calls whose numbers stay as they are.
        untraced: whether all numbers do of which it is not known where they come from; otherwise those that do not
            stand in the code are trusted to follow the cut.
        constants: whether constants that the class computes from widths stay too, although weights could make up for
            another one: for cuts that follow each other, where each would have to know of the others.
    """

    nodes: frozenset[fx.Node] = frozenset()
    untraced: bool = False
    constants: bool = False


TRUSTING = Strict()


@dataclass(frozen=True)
class Equation:
    """``left == right`` after the cut.

    Args:
        left: an expression over attributes and lengths, a number written in the code, or a new size.
        right: the new size.
        node: where in the program.
        literal: whether ``left`` is a number that stands in the code or was computed in a way that left no trace.
    """

    left: Any
    right: Any
    node: fx.Node
    literal: bool = False


def equations(groups: Groups, probe: Probe, sizes: Sizes, strict: Strict = TRUSTING) -> list[Equation]:
    """All equations for these sizes."""
    groups = seen_again(groups, probe)
    new = rewrite(groups, sizes, {})
    by_node: dict[fx.Node, list[Use]] = {}
    for use in probe.uses:
        by_node.setdefault(use.node, []).append(use)
    found: list[Equation] = []
    for node, twin in new.items():
        if node.op != "call_function" or node not in probe.calls:
            continue
        uses = by_node.get(node, [])
        if node in strict.nodes:
            found += _as_they_were(node, twin)
        if _made_here(groups, node):
            found += _unchanged(groups, node, sizes)
        elif op_name(node) in _SPLITS:
            found += _split(groups, node, uses, sizes)
        else:
            if strict.untraced:
                uses = [u if _traced(u, probe) else replace(u, expression=None) for u in uses]
            found += _arguments(groups, node, twin, uses, sizes, strict.untraced)
    return found


class More(Protocol):
    """A source of further equations, such as a configuration."""

    def equations(self, groups: Groups, found: list[Equation], sizes: Sizes) -> list[Equation]:
        """What it adds to those found."""

    def floats(self, numbers: Mapping[Attribute, int]) -> dict[Attribute, float]:
        """Numbers that are not whole and change with these."""


def all_equations(
    groups: Groups, probe: Probe, sizes: Sizes, more: More | None, strict: Strict = TRUSTING
) -> list[Equation]:
    """The equations between integers, those of ``more`` included."""
    found = [e for e in equations(groups, probe, sizes, strict) if not isinstance(e.right, float)]
    anchor = next((n for n in groups.graph.nodes if n.op == "call_function"), groups.graph.nodes[0])
    found += [Equation(comparison, outcome, anchor) for comparison, outcome in probe.comparisons.items()]
    found += _standard(groups, probe, sizes, anchor)
    return found + more.equations(groups, found, sizes) if more else found


def _standard(groups: Groups, probe: Probe, sizes: Sizes, anchor: fx.Node) -> Iterator[Equation]:
    """What attributes of torch's own modules say about tensors, which torch's own code may compare with."""
    for path, module in probe.model.named_modules():
        for attribute, expression in expressions(path, module).items():
            if isinstance(expression, Length) and attribute in probe.attributes:
                name = groups.graph.aliases.get(expression.value, expression.value)
                if name in groups.coupling.state_axes:
                    axis = groups.coupling.state_axes[name][expression.axis]
                    yield Equation(attribute, sizes.of(axis), anchor)


def lengths(groups: Groups, probe: Probe, sizes: Sizes) -> Mapping[Length, Any]:
    """The new size behind every :class:`Length` in the expressions."""
    found: dict[Length, Any] = {}
    for expression in (*(u.expression for u in probe.uses), *probe.comparisons):
        for leaf in _lengths_in(expression):
            if leaf in found or leaf.value not in probe.lengths:
                continue
            value = groups.coupling.values.get(probe.lengths[leaf.value])
            value = value[0] if isinstance(value, list) else value
            if isinstance(value, Value) and leaf.axis < len(value):
                found[leaf] = sizes.of(value[leaf.axis])
    return found


def _lengths_in(expression: Any) -> Iterator[Length]:
    return (leaf for leaf in leaves(expression) if isinstance(leaf, Length))


def _made_here(groups: Groups, node: fx.Node) -> bool:
    """Whether the cut program takes a selection of what the user's code makes or lists by itself."""
    notes = groups.coupling.facts.notes.get(node, {})
    if any(name.startswith("selected") for name in notes):
        return True
    if op_name(node) not in ("aten::index", "aten::index_select"):
        return False
    value = groups.coupling.values[bind(node)["self"]]
    return any(literal_indices(node, len(axis)) is not None for axis in value.axes)


def _as_they_were(node: fx.Node, twin: fx.Node) -> Iterator[Equation]:
    """All whole numbers that a call is given."""
    for was, becomes in zip(flat_arguments(node), flat_arguments(twin), strict=False):
        if isinstance(was, int) and not isinstance(was, bool) and not isinstance(becomes, fx.Node):
            if not _same(was, becomes):
                yield Equation(was, becomes, node, literal=True)


def _unchanged(groups: Groups, node: fx.Node, sizes: Sizes) -> Iterator[Equation]:
    """The axes of a call, as operand and result, keep their lengths."""
    for known in (node, *node.all_input_nodes):
        value = groups.coupling.values.get(known)
        for axis in value.axes if isinstance(value, Value) else ():
            if not _same(len(axis), sizes.of(axis)):
                yield Equation(len(axis), sizes.of(axis), node, literal=True)


def _arguments(
    groups: Groups, node: fx.Node, twin: fx.Node, uses: list[Use], sizes: Sizes, untraced: bool
) -> Iterator[Equation]:
    if op_name(node) in ("aten::reshape_as", "aten::view_as"):
        return  # a reshape in the cut program; the user's code holds no number there
    before, after = flat_arguments(node), flat_arguments(twin)
    if len(before) != len(after):
        return
    for use in uses:
        was, becomes = before[use.place], after[use.place]
        if isinstance(becomes, (fx.Node, bool)) or becomes is None or isinstance(was, fx.Node):
            continue
        if isinstance(was, int) and was < 0 and not _same(was, becomes):
            if op_name(node) not in ("aten::slice", "aten::select", "aten::narrow"):
                continue  # -1: whatever is left
            value: Value = groups.coupling.values[bind(node)["self"]]
            becomes = becomes - sizes.of(value[int(bind(node)["dim"]) % len(value)])
        if use.expression is None:
            if not _same(was, becomes) and (untraced or _written(node, use.value)):
                yield Equation(use.value, becomes, node, literal=True)
        else:
            yield Equation(use.expression, becomes, node)


def _traced(use: Use, probe: Probe) -> bool:
    """Whether all that a number was computed from is known."""
    return all(
        leaf.value in probe.lengths if isinstance(leaf, Length) else leaf in probe.attributes
        for leaf in leaves(use.expression)
    )


def _written(node: fx.Node, value: int | float) -> bool:
    """Whether a number stands in the statement: one that does not was computed, and may well follow the cut."""
    file, line, code = place_of(node)
    return re.search(rf"(?<![\w.]){value}(?![\w.])", statement_at(file, line) if file else code) is not None


def _same(was: Any, becomes: Any) -> bool:
    return isinstance(becomes, (int, float)) and bool(was == becomes)


def _split(groups: Groups, node: fx.Node, uses: list[Use], sizes: Sizes) -> Iterator[Equation]:
    """Equal parts stay equal; a list of sizes gives each its own."""
    value: Value = groups.coupling.values[bind(node)["self"]]
    dim = int(bind(node)["dim"]) % len(value)
    parts = [sizes.of(part[dim]) for part in groups.coupling.values[node]]
    kind = op_name(node).removeprefix("aten::")
    given = bind(node)
    lists = given.get("split_sizes", given.get("split_size"))
    if isinstance(lists, list):
        first = next(i for i, v in enumerate(flat_arguments(node)) if not isinstance(v, fx.Node))
        for use in uses:
            at = use.place - first
            if 0 <= at < len(parts):
                yield Equation(
                    use.value if use.expression is None else use.expression,
                    parts[at],
                    node,
                    use.expression is None,
                )
        return
    lengths_before = [len(part[dim]) for part in groups.coupling.values[node]]
    even = len(set(lengths_before)) == 1
    if kind in _EVEN:
        for part, size in zip(parts, lengths_before, strict=True):
            yield Equation(parts[0] if even else size, part, node, literal=not even)
        return
    size_use = next((u for u in uses if u.value == lengths_before[0]), None)
    for part in parts if even else parts[:-1]:
        if size_use is not None and size_use.expression is not None:
            yield Equation(size_use.expression, part, node)
        else:
            yield Equation(lengths_before[0], part, node, literal=True)
