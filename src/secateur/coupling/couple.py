"""Walks a traced program once, lets the operator table label every axis, and solves.

The outcome, :class:`Coupling`, answers the two questions of surgery: which positions of any axis live for a
given choice of atoms, and what a rewrite needs to know of a node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from secateur.coupling.facts import Axes, Axis, Facts, Mixing
from secateur.coupling.monomials import Monomial
from secateur.coupling.operators import Operator, as_operators
from secateur.coupling.outputs import FreeAxes, FreeOutputs, free_axes
from secateur.coupling.rules import RULES, Rule, elementwise, lock
from secateur.coupling.solve import Solution, solve
from secateur.coupling.values import Arguments, Value
from secateur.graph import Graph, op_name, outputs, shape_of


@dataclass(frozen=True)
class Coupling:
    """Labels of every value of a program, and what they solve to.

    Args:
        values: for each node a :class:`Value`, a list of them for several outputs, or None for numbers.
        facts: what the rules stated.
        solution: classes, monomials and reasons.
        operators: what a user has taught, by operator name.
    """

    values: Mapping[fx.Node, Any]
    facts: Facts
    solution: Solution
    operators: Mapping[str, Operator] = field(default_factory=dict)

    def classes(self, axis: Axis) -> np.ndarray:
        """int64 ``[n]``: the class of each position, 0 where it is pinned; one object for equal ones.

        Programs have thousands of axes and few that differ, so what is derived from classes can be kept by their
        identity.
        """
        known = self._known.get(id(axis))
        if known is None:
            found = self.solution.class_of[axis]
            known = self._known[id(axis)] = (axis, self._distinct.setdefault(found.tobytes(), found))
        return known[1]

    def locked_share(self, axis: Axis) -> float:
        """Share of an axis's positions that are pinned; 1 for an axis of no length."""
        classes = self.classes(axis)
        if id(classes) not in self._locked:
            self._locked[id(classes)] = float((classes == 0).mean()) if len(axis) else 1.0
        return self._locked[id(classes)]

    @cached_property
    def _locked(self) -> dict[int, float]:
        return {}  # by the identity of classes, which are kept

    @cached_property
    def _known(self) -> dict[int, tuple[Axis, np.ndarray]]:
        return {}  # by identity, with the axis, so that no other can take its address

    @cached_property
    def _distinct(self) -> dict[bytes, np.ndarray]:
        return {}

    def alive(self, dead_atoms: np.ndarray) -> np.ndarray:
        """bool ``[labels]``: which classes live when these atoms are removed."""
        alive = np.ones(self.facts.size, dtype=bool)
        alive[dead_atoms] = False
        alive[0] = True
        products, atoms = self.solution.products
        alive[products] = alive[atoms].all(axis=1)
        return alive

    def keep(self, axis: Axis, alive: np.ndarray) -> np.ndarray:
        """bool ``[n]``: which positions of an axis live."""
        return alive[self.classes(axis)]

    def renamed(self, nodes: Mapping[fx.Node, fx.Node]) -> Coupling:
        """The same coupling for a copy of the program."""
        facts = replace(
            self.facts,
            mixings=[replace(m, node=nodes[m.node]) for m in self.facts.mixings],
            notes={nodes[node]: notes for node, notes in self.facts.notes.items()},
        )
        return Coupling({nodes[n]: value for n, value in self.values.items()}, facts, self.solution)

    def monomial(self, label_class: int) -> Monomial:
        """Atoms that must all live for a class to live."""
        return self.solution.monomial(int(label_class))

    def pairs(self, axis: Axis) -> tuple[np.ndarray, np.ndarray]:
        """int64 ``[k]`` each: every position of an axis that may go, once with each atom that it stands with."""
        classes = self.classes(axis)
        known = self._pairs.get(id(classes))
        if known is None:
            atoms, where = self.solution.atoms_of(classes)
            known = self._pairs[id(classes)] = (where, atoms)
        return known

    @cached_property
    def _pairs(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        return {}  # by the identity of classes, which are kept

    @cached_property
    def mixings(self) -> Mapping[fx.Node, list[Mixing]]:
        """Contractions and reductions by node."""
        found: dict[fx.Node, list[Mixing]] = {}
        for mixing in self.facts.mixings:
            found.setdefault(mixing.node, []).append(mixing)
        return found

    @cached_property
    def state_axes(self) -> Mapping[str, Axes]:
        """The axes of every parameter, buffer and constant, by name."""
        return {
            str(node.target): value.axes
            for node, value in self.values.items()
            if node.op == "get_attr" and isinstance(value, Value)
        }


def couple(
    graph: Graph, rules: Mapping[str, Rule | Operator] | None = None, free_outputs: FreeOutputs | None = None
) -> Coupling:
    """Labels and solves a traced program.

    Args:
        graph: the program.
        rules: further or other rules by operator name (``"namespace::name"``), over the built-in table; an
            :class:`Operator` where arguments hold sizes.
        free_outputs: axes of outputs that may shrink; see :func:`secateur.find_groups`.

    Raises:
        UnknownName: ``free_outputs`` names what the model does not return.
        RequestError: something in ``rules`` is no rule, or declares sizes that are not there.
    """
    free = free_axes(graph, free_outputs)
    operators = as_operators(rules)
    table = {**RULES, **{name: operator.checked for name, operator in operators.items()}}
    facts = Facts()
    values: dict[fx.Node, Any] = {}
    tensors: dict[int, Axes] = {}
    for node in graph.module.graph.nodes:
        facts.node = node
        if node.op == "output":
            _pin_outputs(graph, facts, values, free)
        values[node] = _visit(graph, node, facts, values, tensors, table)
    facts.node = None
    return Coupling(values, facts, solve(facts), operators)


def _visit(
    graph: Graph,
    node: fx.Node,
    facts: Facts,
    values: dict[fx.Node, Any],
    tensors: dict[int, Axes],
    table: Mapping[str, Rule],
) -> Any:
    if node.op == "placeholder":
        if not isinstance(node.meta.get("val"), Tensor):
            return None
        shape = shape_of(node)
        return Value(tuple(facts.pinned(n, _of_input(i, node)) for i, n in enumerate(shape)), shape, node)
    if node.op == "get_attr":
        tensor = graph.state.get(str(node.target))
        if tensor is None:
            return None
        shape = tuple(tensor.shape)
        if id(tensor) not in tensors:  # tied parameters share their axes
            tensors[id(tensor)] = tuple(facts.fresh(n) for n in shape)
        return Value(tensors[id(tensor)], shape, node)
    if node.op == "output":
        return None
    if node.op != "call_function":
        raise AssertionError(f"unexpected node {node.format_node()}")
    if op_name(node) == "getitem" and isinstance(values.get(node.args[0]), list):  # type: ignore[arg-type]
        return values[node.args[0]][node.args[1]]  # type: ignore[index]
    if not isinstance(node.meta.get("val"), (Tensor, tuple, list)):
        return None  # arithmetic on symbolic sizes
    arguments = Arguments(node, values)
    rule = table.get(op_name(node))
    if rule is None:
        tagged = isinstance(node.target, torch._ops.OpOverload) and torch.Tag.pointwise in node.target.tags
        rule = elementwise if tagged else lock
        if rule is lock:
            facts.unknown.append(node)
    return _wrap(node, rule(facts, arguments), arguments)


def _wrap(node: fx.Node, result: Axes | list[Axes], arguments: Arguments) -> Any:
    """Rules' axes as values, checked against the shapes that the exporter saw."""
    shapes = arguments.outputs
    several = isinstance(node.meta["val"], (tuple, list))
    axes = result if isinstance(result, list) else [result]
    out = []
    for one, shape in zip(axes, shapes, strict=True):
        if tuple(len(a) for a in one) != shape:
            sizes = tuple(len(a) for a in one)
            raise AssertionError(
                f"the rule of {node.target} gave sizes {sizes} for shape {shape} at {node.name}"
            )
        out.append(Value(tuple(one), shape, node))
    return out if several else out[0]


def _of_input(axis: int, node: fx.Node) -> str:
    what = f"axis {axis} of '{node.target}'" if axis else f"the batch of '{node.target}'"
    return f"it meets an input of the model: {what}"


def _pin_outputs(graph: Graph, facts: Facts, values: Mapping[fx.Node, Any], free: FreeAxes) -> None:
    """Pins what the model returns, except for the axes that may shrink. The cause is what computes each."""
    for output in outputs(graph):
        facts.node, value = output.node, values[output.node]
        for i, axis in enumerate(value.axes):
            if i == 0:
                facts.pin(axis, f"it is an output of the model: the batch of '{output.name}'")
            elif i not in free.get(output.index, ()):
                facts.pin(axis, f"it is an output of the model: axis {i} of '{output.name}'")
