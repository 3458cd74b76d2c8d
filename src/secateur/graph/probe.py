"""Runs the user's module once more to learn where every integer argument of the program comes from.

The exporter bakes sizes into constants. To give the user's own class back, its integer attributes must be changed
so that its own code computes the new ones; matching them by value would be a guess. Here the model is exported
again with numbers that remember where they come from, and a function mode that marks each node of the
program with the Python call that made it: what reached the call is what the constants were computed from.
"""

from __future__ import annotations

import contextlib
import difflib
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx import traceback as fx_traceback
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from secateur.graph.normalise import inline_wrappers, op_name
from secateur.graph.numbered import numbered
from secateur.graph.numbers import (
    Attribute,
    Compound,
    Expression,
    Length,
    TracedFloat,
    TracedInt,
    leaves,
    real,
    root,
    watched_comparisons,
)
from secateur.graph.record import Graph, flat_arguments, hint
from secateur.graph.scalars import scalar
from secateur.graph.unread import reading_only, unread_nodes, with_unread

_MARK = "secateur_call"


@dataclass(frozen=True)
class Use:
    """A number that reached an operator.

    Args:
        node: the operator's node in the traced program.
        place: where it stands in :func:`flat_arguments` of the node.
        value: the number.
        expression: what it was computed from; None for a number written out in the code.
    """

    node: fx.Node
    place: int
    value: int | float
    expression: Expression | None


@dataclass(frozen=True)
class Probe:
    """What one run of the user's module showed.

    Args:
        uses: numbers that reached operators, in order.
        attributes: every integer attribute and its value.
        lengths: for each :class:`Length` in an expression, the node whose axis it is; lengths of inputs have none.
        calls: for each node the Python function that made it, ``"chunk"``.
        comparisons: of numbers by the user's code, and how they came out.
        graph: the program with the calls that the exporter drops, since nothing reads them; the one that was given
            where there are none. The nodes above are its nodes.
        unread: these calls.
        model: the user's model.
    """

    uses: tuple[Use, ...]
    attributes: Mapping[Attribute, int]
    lengths: Mapping[Any, fx.Node]
    calls: Mapping[fx.Node, str]
    comparisons: Mapping[Compound, bool]
    graph: Graph
    unread: frozenset[fx.Node]
    model: nn.Module

    def without(self, nodes: Collection[fx.Node]) -> Probe:
        """The same without the calls that made some nodes: code that is not run any more."""
        if not nodes:
            return self
        uses = tuple(use for use in self.uses if use.node not in nodes)
        return replace(self, uses=uses, calls={n: name for n, name in self.calls.items() if n not in nodes})


def probe(model: nn.Module, graph: Graph) -> Probe:
    """Runs ``model`` under observation; the model is put back as it was.

    Args:
        model: the user's model that ``graph`` was traced from.
        graph: its program, whose nodes the uses refer to.
    """
    from secateur.graph.trace import evaluating  # trace builds on this file's siblings, not on this one

    with evaluating(model), numbered(model) as attributes:
        try:
            exported, mode = _observed(model, graph, unread=True)
        except Exception:  # a result that cannot leave the place where it was made
            exported, mode = _observed(model, graph, unread=False)
    return _matched(exported, graph, model, mode, attributes)


def _observed(
    model: nn.Module, graph: Graph, *, unread: bool
) -> tuple[torch.export.ExportedProgram, _Observer]:
    """Exports the model under observation; with ``unread``, results that nothing reads are outputs, too."""
    mode = _Observer(model)
    plain = model.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        with mode, watched_comparisons() as seen:
            try:
                result = plain(*args, **kwargs)
            finally:
                mode.comparisons.update(seen)
        mode.ends = mode.unread((args, kwargs), result) if unread else []
        return result, mode.ends

    model.forward = forward
    try:
        with _inlined_functionals(), fx_traceback.preserve_node_meta():
            return torch.export.export(model, graph.args, dict(graph.kwargs)), mode
    finally:
        model.forward = plain


# -- observing -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Call:
    name: str
    numbers: tuple[Any, ...]


class _Observer(TorchFunctionMode):
    """Marks the nodes that each call makes, and lets the sizes of its results remember it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.calls: list[_Call] = []
        self.made: dict[int, tuple[Tensor, Any]] = {}
        self.before: dict[Any, Any] = {}
        self.comparisons: dict[Compound, bool] = {}
        self.state: dict[int, tuple[Tensor, str]] | None = None
        self.read: set[int] = set()
        self.scalars: dict[int, TracedFloat] = {}
        self.ends: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", str(func))
        if (name == "__get__" and getattr(func, "__self__", None) is torch.Tensor.shape) or name in (
            "size",
            "__len__",
        ):
            return self._sizes(args, kwargs, func(*args, **kwargs))
        call = len(self.calls)
        self.calls.append(_Call(name, tuple(_numbers((args, kwargs), self._scalar))))
        self.read.update(id(t) for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, Tensor))
        with fx_traceback.annotate({_MARK: call}):
            result = func(*args, **kwargs)
        number = scalar(name, args, self._scalar) if isinstance(result, Tensor) and not result.dim() else None
        if number is not None:
            self.scalars[id(result)] = number
        for position, tensor in enumerate(t for t in pytree.tree_leaves(result) if isinstance(t, Tensor)):
            if id(tensor) in self.made:  # written in place, or handed back as it came
                self.before[call, position] = self.made[id(tensor)][1]
            self.made[id(tensor)] = (tensor, (call, position))
            self.read.discard(id(tensor))
        return result

    def unread(self, inputs: Any, outputs: Any) -> list[Tensor]:
        """Results that no call read and that are not returned."""
        known = {id(t) for t in pytree.tree_leaves((inputs, outputs)) if isinstance(t, Tensor)}
        known |= self.read | {id(t) for t in (*self.model.parameters(), *self.model.buffers())}
        return [
            tensor
            for key, (tensor, _) in self.made.items()
            if key not in known and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        ]

    def _scalar(self, value: Any) -> TracedFloat | None:
        """The number that a tensor holds, if it remembers where that comes from."""
        return self.scalars.get(id(value)) if isinstance(value, Tensor) else None

    def _sizes(self, args: Any, kwargs: Any, result: Any) -> Any:
        value = self._name(args[0])
        if value is None:
            return result
        if isinstance(result, torch.Size):
            return torch.Size(
                [TracedInt(n, Length(value, i)) if type(n) is int else n for i, n in enumerate(result)]
            )
        axis = args[1] if len(args) > 1 else kwargs.get("dim", 0)
        return TracedInt(result, Length(value, int(axis) % args[0].dim())) if type(result) is int else result

    def _name(self, tensor: Tensor) -> Any:
        if id(tensor) in self.made:
            return self.made[id(tensor)][1]
        if self.state is None:  # the exporter has swapped the module's tensors for its own by now
            named = [*self.model.named_parameters(), *self.model.named_buffers()]
            self.state = {id(t): (t, n) for n, t in named}
        return self.state[id(tensor)][1] if id(tensor) in self.state else None


@dataclass(frozen=True)
class _Held:
    """A number that stands in a tensor of its own."""

    number: TracedFloat


def _numbers(value: Any, held: Callable[[Any], TracedFloat | None]) -> Iterator[Any]:
    """Integers, and floats with an expression, in the order given; ``held``: of tensors."""
    if isinstance(value, TracedFloat) or (isinstance(value, int) and not isinstance(value, bool)):
        yield value
    elif isinstance(value, Tensor):
        number = held(value)
        if number is not None:
            yield _Held(number)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _numbers(item, held)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _numbers(item, held)
    elif isinstance(value, slice):
        yield from _numbers((value.start, value.stop, value.step), held)


@contextlib.contextmanager
def _inlined_functionals() -> Iterator[None]:
    """Lets the bodies of ``torch.nn.functional`` run under the mode, so that each operator in them is a call."""
    from torch import functional
    from torch.nn import functional as nn_functional

    names = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
    before = [(m, n, getattr(m, n)) for m in (nn_functional, functional) for n in names if hasattr(m, n)]
    for module, name, _ in before:
        setattr(module, name, lambda *_: False)
    nn_functional.float = real  # type: ignore[attr-defined]
    math.sqrt = root
    try:
        yield
    finally:
        math.sqrt = _SQRT
        del nn_functional.float  # type: ignore[attr-defined]
        for module, name, function in before:
            setattr(module, name, function)


_SQRT = math.sqrt


# -- matching --------------------------------------------------------------------------------------------


def _matched(
    exported: torch.export.ExportedProgram,
    graph: Graph,
    model: nn.Module,
    mode: _Observer,
    attributes: Mapping[Attribute, int],
) -> Probe:
    program = exported.graph_module
    inline_wrappers(program)
    marked = _computing(program.graph)
    dropped = set(unread_nodes(program.graph, len(mode.ends)))
    twin = dict(_aligned([n for n in marked if n not in dropped], _computing(graph.module.graph)))
    unread: frozenset[fx.Node] = frozenset()
    if mode.ends and any(n in dropped for n in marked):
        ends = [n for n in marked if n in dropped]
        graph, nodes = with_unread(graph, model, exported, ends, twin)
        twin = {n: nodes[n] for n in marked if n in nodes}
        unread = reading_only({nodes[n] for n in dropped if n in nodes})
    by_call: dict[int, list[fx.Node]] = {}
    for node in marked:
        call = (node.meta.get("custom") or {}).get(_MARK)
        if call is not None:
            by_call.setdefault(call, []).append(node)
    uses: list[Use] = []
    calls: dict[fx.Node, str] = {}
    for index, made in by_call.items():
        calls.update({twin[n]: mode.calls[index].name for n in made if n in twin})
        uses += _uses(mode.calls[index], made, twin)
    lengths: dict[Any, fx.Node] = {}
    state = {str(n.target): n for n in graph.nodes if n.op == "get_attr"}
    for expression in (*(u.expression for u in uses), *mode.comparisons):
        for leaf in leaves(expression):
            if isinstance(leaf, Length):
                value = leaf.value
                while not isinstance(value, str) and value[0] not in by_call and value in mode.before:
                    value = mode.before[value]  # the call made no node of its own
                source = (
                    state.get(value)
                    if isinstance(value, str)
                    else _output(by_call.get(value[0], []), value[1], twin)
                )
                if source is not None:
                    lengths[leaf.value] = source
    return Probe(tuple(uses), attributes, lengths, calls, mode.comparisons, graph, unread, model)


def _computing(graph: fx.Graph) -> list[fx.Node]:
    """Nodes that compute tensors, in order."""
    return [
        n for n in graph.nodes
        if n.op == "call_function" and isinstance(n.meta.get("val"), (Tensor, tuple, list))
    ]  # fmt: skip


def _aligned(ours: list[fx.Node], theirs: list[fx.Node]) -> Iterator[tuple[fx.Node, fx.Node]]:
    """Nodes that stand for each other in two programs of one model, by the sequence of operators."""

    def key(node: fx.Node) -> str:
        stack = node.meta.get("nn_module_stack") or {}
        path = list(stack.values())[-1][0] if stack else ""
        modal = any(word in op_name(node) for word in _MODAL)
        numbers = [] if modal else [_number(v) for v in flat_arguments(node)]
        return f"{op_name(node)}|{path}|{numbers}"

    left, right = [key(n) for n in ours], [key(n) for n in theirs]
    if left == right:
        yield from zip(ours, theirs, strict=True)
        return
    for a, b, size in difflib.SequenceMatcher(None, left, right, autojunk=False).get_matching_blocks():
        yield from zip(ours[a : a + size], theirs[b : b + size], strict=True)


_MODAL = (
    "batch_norm",
    "dropout",
    "scaled_dot_product_attention",
)  # the program reads the mode in their arguments


def _number(value: Any) -> Any:
    """An argument as one word: numbers that follow from the batch as what they are in the examples."""
    if isinstance(value, fx.Node):
        result = value.meta.get("val")
        if result is None or isinstance(result, (Tensor, tuple, list)):
            return "tensor"
        known = isinstance(result, (int, float)) or result.node.hint is not None
        return hint(result) if known else "unknown"
    return value if isinstance(value, (int, float, str)) else str(value)


def _uses(call: _Call, nodes: list[fx.Node], twin: Mapping[fx.Node, fx.Node]) -> Iterator[Use]:
    """A call's numbers, each at the node whose arguments hold it next."""
    places = [
        (n, i, v) for n in nodes if op_name(n) != "getitem" for i, v in enumerate(flat_arguments(n))
        if (isinstance(v, (int, float)) and not isinstance(v, bool)) or _is_scalar(v)
    ]  # fmt: skip
    start = 0
    for number in call.numbers:
        order = [*range(start, len(places)), *range(start)]
        if isinstance(number, _Held):
            at = next((i for i in order if isinstance(places[i][2], fx.Node)), None)
            number = number.number
        else:
            at = next((i for i in order if places[i][2] == number), None)
        if at is None:
            continue
        start, (node, place, _) = at + 1, places[at]
        if node in twin:
            plain = float(number) if isinstance(number, float) else int(number)
            yield Use(twin[node], place, plain, getattr(number, "expression", None))


def _is_scalar(value: Any) -> bool:
    held = value.meta.get("val") if isinstance(value, fx.Node) else None
    return isinstance(held, Tensor) and not held.dim()


def _output(nodes: list[fx.Node], position: int, twin: Mapping[fx.Node, fx.Node]) -> fx.Node | None:
    """The node of a call's ``position``-th result."""
    items = [n for n in nodes if op_name(n) == "getitem"]
    several = [n for n in items if n.args[1] == position]
    found = several[-1] if several else (nodes[-1] if nodes else None)
    return twin.get(found) if found is not None else None
