"""Prepares a program for a cut: rewrites that leave its function as it is, so that what is cut is a rectangle.

Two things make a cut more than slicing. Attention that scales by the root of the head size would scale by another
root: the query's weights take the factor (:mod:`secateur.surgery.rescale`). And where each head keeps dimensions of
its own, these come first in every head. Both are done to a private copy; the user's tensors are only read. The
prepared program is run beside the original and must compute the same wherever the rewriting has no effect any more, so
that the cut, which is compared with the masked prepared program, is a cut of the original.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from secateur.coupling import Axes, Groups, Removal, Value, bind
from secateur.errors import NotVerified
from secateur.graph import assemble, fetch, op_name
from secateur.planning import Orders
from secateur.surgery.arrange import arrange
from secateur.surgery.compare import decides
from secateur.surgery.emit import Emitted
from secateur.surgery.rescale import Folds, Rescale, Scaled, fold
from secateur.surgery.rewrites import DEFAULT_SCALE
from secateur.surgery.sizes import Sizes
from secateur.surgery.verify import verify

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-4}
"""Largest relative error accepted at any node. Halves are checked in single precision, and what differs by more than
rounding should in single precision is looked at again in double; then node by node, each from what the original has, so
that a network that multiplies rounding is told from one that computes something else."""


@dataclass(frozen=True)
class Prepared:
    """A program that computes what the original does, and is cut by slicing.

    Args:
        groups: the same groups, of the prepared program.
        scaled: factors that parameters took, by name.
        unfolded: calls that keep a scale of their own, each with the reason: ``(name of the node, reason)``.
        nodes: for each node of the original program the one of the prepared program.
        max_relative_error: of the check; zero where there was nothing to do, or there are only shapes.
    """

    groups: Groups
    scaled: Mapping[str, Scaled] = field(default_factory=dict)
    unfolded: tuple[tuple[str, str], ...] = ()
    nodes: Mapping[fx.Node, fx.Node] = field(default_factory=dict)
    max_relative_error: float = 0.0


def prepare(
    groups: Groups,
    sizes: Sizes,
    orders: Orders | None = None,
    *,
    rescales: Sequence[Rescale] = (),
    dtype: torch.dtype | None = None,
) -> Prepared:
    """Rewrites the original program for a cut.

    Args:
        groups: of the original program.
        sizes: what will live.
        orders: for groups that choose anew in each context, the order of their units there.
        rescales: further calls whose arguments change, with the factor that makes up for it.
        dtype: precision of the check, as for :func:`secateur.surgery.verify`.

    Raises:
        NotVerified: the program does not allow the orders: it computes something else then.
    """
    wanted = (*_attention(groups, sizes), *rescales)
    folds = fold(groups.graph.module, wanted)
    orders = orders or {}
    if not folds.done and not orders:
        return Prepared(groups, unfolded=_unfolded(folds))
    try:
        return _prepared(groups, folds, orders, dtype)
    except NotVerified as error:
        if not folds.done:
            raise
        # No fold is wrong by the rules above; should one be, the scales stay in the program.
        reason = f"the folded program computes something else: {error}"
        kept = Folds((), {}, {}, {**folds.refused, **{r.node: reason for r in folds.done}})
        if not orders:
            return Prepared(groups, unfolded=_unfolded(kept))
        return _prepared(groups, kept, orders, dtype)


def _attention(groups: Groups, sizes: Sizes) -> list[Rescale]:
    """Calls that scale by the root of a head size that changes."""
    found = []
    for node in groups.graph.module.graph.nodes:
        if node.op != "call_function" or op_name(node) != "aten::scaled_dot_product_attention":
            continue
        given = bind(node)
        axis = groups.coupling.values[given["query"]][-1]
        before, after = len(axis), sizes.of(axis)
        if given["scale"] is None and after not in (0, before):
            found.append(
                Rescale(node, ("query", "key"), math.sqrt(after / before), {"scale": 1.0 / math.sqrt(after)})
            )
    return found


def _unfolded(folds: Folds) -> tuple[tuple[str, str], ...]:
    return tuple((node.name, reason) for node, reason in folds.refused.items())


def _prepared(groups: Groups, folds: Folds, orders: Orders, dtype: torch.dtype | None) -> Prepared:
    rewriting = _Rewriting(groups, folds, orders)
    if groups.graph.shapes_alone:
        return _rewritten(rewriting, 0.0)  # nothing to run
    own = min(_floats(groups), key=lambda d: torch.finfo(d).bits, default=torch.float32)
    exact = dtype or (own if own in TOLERANCES else torch.float32)
    for precision in dict.fromkeys((exact, torch.float64)):
        try:
            return _rewritten(rewriting, _check(rewriting, precision))
        except NotVerified:
            continue
    return _rewritten(rewriting, _check(rewriting, torch.float64, equal_inputs=True))


def _rewritten(rewriting: _Rewriting, error: float) -> Prepared:
    groups, folds = rewriting.groups, rewriting.folds
    program, nodes = rewriting.program(None)
    prepared = replace(
        groups,
        graph=replace(groups.graph, module=program),
        coupling=groups.coupling.renamed(nodes),
        removal=groups.removal.renamed(nodes),
    )
    return Prepared(prepared, folds.scaled, _unfolded(folds), nodes, error)


def _floats(groups: Groups) -> set[torch.dtype]:
    found = {groups.graph.tensor(n).dtype for n in groups.graph.state_names()}
    return {d for d in found if d.is_floating_point}


def _check(rewriting: _Rewriting, dtype: torch.dtype, equal_inputs: bool = False) -> float:
    """The largest error of the prepared program at any node, both run in this precision."""
    groups = replace(rewriting.groups, removal=Removal())  # all of it, removed blocks included
    whole = Sizes(groups.coupling, groups.coupling.alive(np.empty(0, dtype=np.int64)))
    emitted = Emitted(*rewriting.program(dtype), whole)
    promoted = None if _floats(groups) == {dtype} else dtype
    try:
        most = None if equal_inputs else TOLERANCES[dtype]
        expected, points = rewriting.expected, rewriting.points
        return verify(groups, emitted, promoted, most, expected, points, equal_inputs).max_relative_error
    except NotVerified as error:
        raise NotVerified(
            f"units cannot be chosen anew in each head or group: {error}; score(..., cells=False) chooses the same "
            "in all",
            error.node,
        ) from error


class _Rewriting:
    """The rewrites of one program, applied to its tensors and to its values."""

    def __init__(self, groups: Groups, folds: Folds, orders: Orders) -> None:
        self.groups, self.folds, self.orders = groups, folds, orders
        module = groups.graph.module
        self._scaled = {id(fetch(module, name)): scaled for name, scaled in folds.scaled.items()}

    def program(self, dtype: torch.dtype | None) -> tuple[fx.GraphModule, dict[fx.Node, fx.Node]]:
        """A copy with the rewritten tensors, in double or single precision if ``dtype`` says so; others are shared."""
        old = self.groups.graph.module
        graph = fx.Graph()
        nodes: dict[fx.Node, fx.Node] = {}
        state: dict[str, Any] = {}
        copies: dict[int, Any] = {}
        arguments = {r.node: r for r in self.folds.done}
        for node in old.graph.nodes:
            nodes[node] = new = graph.node_copy(node, nodes.__getitem__)
            new.meta = dict(node.meta)
            if node.op == "get_attr":
                tensor = fetch(old, str(node.target))
                if id(tensor) not in copies:
                    copies[id(tensor)] = self._tensor(node, tensor, dtype)
                state[str(node.target)] = copies[id(tensor)]
            elif node in arguments:
                given = dict(arguments[node].arguments)
                new.args, new.kwargs = _with(node, new, given)
                new.meta[DEFAULT_SCALE] = "scale" in given and bind(node).get("scale") is None
        graph.set_codegen(copy.deepcopy(old.graph._codegen))
        return assemble(state, graph, "Prepared"), nodes

    def _tensor(self, node: fx.Node, tensor: Any, dtype: torch.dtype | None) -> Any:
        value = self.groups.coupling.values.get(node)
        if not isinstance(tensor, Tensor) or not isinstance(value, Value):
            return tensor
        placed, scaled = self._placed(value.axes), self._scaled.get(id(tensor))
        if not placed and scaled is None:
            return tensor
        with torch.no_grad():
            result = tensor.detach()
            if dtype is not None and result.is_floating_point():
                result = result.to(dtype)
            if scaled is not None:
                result = scaled.apply(result)
            result = arrange(result, placed)
        return nn.Parameter(result, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else result

    def _placed(self, axes: Axes) -> list[Any]:
        if not self.orders:
            return []
        found = self.groups.contexts.placements(axes)
        return [
            (p, self.orders[name]) for name, placed in found.items() if name in self.orders for p in placed
        ]

    def _touches(self, node: fx.Node) -> bool:
        """Whether a value of the prepared program is another one than in the original."""
        value = self.groups.coupling.values.get(node)
        items = value if isinstance(value, list) else [value]
        return node in self.folds.fields or any(self._placed(v.axes) for v in items if isinstance(v, Value))

    @cached_property
    def points(self) -> set[fx.Node]:
        """Where to compare: all that is as it was again, and what the calls read whose arguments change or that decide.

        Between these, the same operators work on the same values; what decides is given the original's.
        """
        nodes = list(self.groups.graph.module.graph.nodes)
        touched = {n for n in nodes if self._touches(n)}
        back = {n for n in nodes if n not in touched and not touched.isdisjoint(n.all_input_nodes)}
        steps = [n for n in nodes if n.op == "call_function" and decides(n, n.meta.get("val"))]
        return back.union(*(n.all_input_nodes for n in (*steps, *(r.node for r in self.folds.done))))

    def expected(self, node: fx.Node, value: Any) -> Any:
        """A value of the original program as the prepared one must have it."""
        return self._expected(value, self.groups.coupling.values.get(node), self.folds.fields.get(node))

    def _expected(self, value: Any, axes: Any, fields: Any) -> Any:
        if isinstance(value, (tuple, list)):
            parts = fields if fields is not None else [None] * len(value)
            known = axes if isinstance(axes, list) else [None] * len(value)
            return [self._expected(v, a, f) for v, a, f in zip(value, known, parts, strict=True)]
        if not isinstance(value, Tensor):
            return value
        if fields is not None:
            assert isinstance(fields, Tensor)
            value = value * fields.to(value.device, value.dtype)
        return arrange(value, self._placed(axes.axes)) if isinstance(axes, Value) else value


def _with(old: fx.Node, new: fx.Node, given: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A call's arguments with some of them replaced, by name."""
    args, kwargs = list(new.args), dict(new.kwargs)
    names = [a.name for a in old.target._schema.arguments]  # type: ignore[union-attr]
    for name, value in given.items():
        position = names.index(name)
        if position < len(args):
            args[position] = value
        else:
            kwargs[name] = value
    return tuple(args), kwargs
