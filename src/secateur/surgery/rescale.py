"""Folds a factor on an operand into the weights that write it.

Attention divides by the root of the head size. When the size changes but the function must not, the query's
weights take the factor: ``softmax(q k / sqrt(E))`` is ``softmax((q sqrt(E' / E)) k / sqrt(E'))``. Which rows of
which parameters write the query is found by walking back from it, and settled by walking forward from these
rows: the factor must arrive at the operands that ask for it, everywhere the same, and nowhere else.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from secateur.coupling import bind
from secateur.graph import fetch
from secateur.surgery.fields import (
    TOLERANCE,
    Fields,
    NotCarried,
    alternatives,
    backward,
    forward,
    operands,
    shape,
)

TRIED = 16  # sets of writers tried for one operand


@dataclass(frozen=True)
class Rescale:
    """A call whose arguments change, and the factor on an operand that makes up for it.

    Args:
        node: the call in the original program.
        operands: names of tensor arguments of which one is to be multiplied, the preferred one first.
        factor: by which.
        arguments: what the call's arguments become.
    """

    node: fx.Node
    operands: tuple[str, ...]
    factor: float
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scaled:
    """Factors along one axis of a parameter: float64 ``[n]``, ones where nothing changes."""

    axis: int
    factors: Tensor

    def apply(self, tensor: Tensor) -> Tensor:
        """The tensor multiplied, in its own type; the product is taken in double precision for halves."""
        exact = tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()
        factors = self.factors.to(exact.device, exact.dtype)
        return (exact * factors.reshape(-1, *[1] * (tensor.dim() - 1 - self.axis))).to(tensor.dtype)


@dataclass(frozen=True)
class Folds:
    """What was folded.

    Args:
        done: the calls whose factor the weights take.
        scaled: the factors, by the parameter's name.
        fields: for every value that differs from the original, by which factor.
        refused: the calls whose factor stays, each with the reason.
    """

    done: tuple[Rescale, ...]
    scaled: Mapping[str, Scaled]
    fields: Fields
    refused: Mapping[fx.Node, str]


def scale_writers(
    module: fx.GraphModule, node: fx.Node, operand: str, factor: float
) -> dict[str, tuple[int, Tensor, float]] | None:
    """Parameters to multiply so that one operand of one call comes out multiplied, and nothing else changes.

    Args:
        module: a traced program.
        node: a call in it; its other operands and its result are taken to be as they were.
        operand: the name of one of its tensor arguments.
        factor: by which.

    Returns:
        ``{parameter: (axis, bool [n]: positions along the axis, factor)}``, or None if there are no such parameters.
        Several calls that share a projection have to be folded together, by :func:`fold`.
    """
    folds = fold(module, [Rescale(node, (operand,), factor)])
    if folds.refused:
        return None
    return {name: (s.axis, s.factors != 1.0, factor) for name, s in folds.scaled.items()}


def fold(module: fx.GraphModule, wanted: Sequence[Rescale]) -> Folds:
    """Folds as many factors as the program allows, all at once; calls may share parameters."""
    pending = {w.node: _Request(w, iter(_writers(module, w))) for w in wanted if w.factor != 1.0}
    if not pending:
        return Folds((), {}, {}, {})
    for request in pending.values():
        request.advance()
    while True:
        active = [r for r in pending.values() if r.writers is not None]
        spread = _Spread(module, active)
        if not spread.blamed:
            break
        for node, reason in spread.blamed.items():
            pending[node].advance(reason)
    return Folds(
        tuple(r.wanted for r in active),
        spread.scaled,
        spread.fields,
        {n: r.reason for n, r in pending.items() if r.writers is None},
    )


_Writers = dict[str, tuple[int, Tensor]]  # {parameter: (axis, bool [n])}


@dataclass
class _Request:
    """A wanted factor and the writers that are tried for it at the moment."""

    wanted: Rescale
    options: Iterator[tuple[str, _Writers]]
    writers: _Writers | None = None
    operand: str = ""
    reason: str = ""

    def advance(self, reason: str = "") -> None:
        self.reason = self.reason or reason
        self.operand, self.writers = next(self.options, ("", None))
        if self.writers is None and not self.reason:
            self.reason = (
                f"no weight writes its {' or '.join(self.wanted.operands)} by operators that keep a factor"
            )


def _writers(module: fx.GraphModule, wanted: Rescale) -> Iterator[tuple[str, _Writers]]:
    for name in wanted.operands:
        for target in operands(wanted.node, name):
            everything = torch.ones(shape(target), dtype=torch.bool)
            for found in itertools.islice(_back(module, {target: everything}), TRIED):
                yield name, found


def _back(module: fx.GraphModule, front: Mapping[fx.Node, Any]) -> Iterator[_Writers]:
    """Sets of parameter rows that write the wanted positions of all values of a front."""
    if not front:
        yield {}
        return
    node = max(front)  # the last in the program, so that all that reads a value comes before it
    wanted, rest = front[node], {n: w for n, w in front.items() if n is not node}
    if node.op == "get_attr":
        rows = _rows(wanted)
        if rows is not None and isinstance(fetch(module, str(node.target)), nn.Parameter):
            for others in _back(module, rest):
                merged = _merge({str(node.target): rows}, others)
                if merged is not None:
                    yield merged
        return
    if node.op == "call_function":
        for chosen in alternatives(node):
            with contextlib.suppress(NotCarried):
                if chosen:
                    yield from _back(module, _join(backward(node, wanted, chosen), rest))


def _join(new: Mapping[fx.Node, Any], rest: Mapping[fx.Node, Any]) -> dict[fx.Node, Any]:
    """A front with more wanted, each value in it once."""
    front = dict(rest)
    for node, wanted in new.items():
        if isinstance(wanted, Tensor) and not wanted.any():
            continue
        held = front.get(node)
        if held is None:
            front[node] = wanted
        elif isinstance(held, dict):
            front[node] = {
                i: held[i] | wanted[i] if i in held and i in wanted else held.get(i, wanted.get(i))
                for i in {*held, *wanted}
            }
        else:
            front[node] = held | wanted
    return front


def _rows(wanted: Tensor) -> tuple[int, Tensor] | None:
    """Wanted positions of a parameter as positions along one of its axes."""
    for axis in range(wanted.dim()):
        rows = wanted.movedim(axis, 0).reshape(wanted.shape[axis], -1)
        if bool((rows == rows[:, :1]).all()):
            return axis, rows[:, 0]
    return None


def _merge(one: _Writers, other: _Writers) -> _Writers | None:
    out = dict(other)
    for name, (axis, rows) in one.items():
        if name in out:
            if out[name][0] != axis:
                return None
            rows = rows | out[name][1]
        out[name] = (axis, rows)
    return out


class _Spread:
    """Fields of the whole program for one choice of writers, and which requests have to choose others.

    ``origins`` remembers which requests a field comes from: they are to blame where it may not go.
    """

    def __init__(self, module: fx.GraphModule, active: Iterable[_Request]) -> None:
        self.module = module
        self.requests = {r.wanted.node: r for r in active}
        self.blamed: dict[fx.Node, str] = {}
        self.scaled: dict[str, Scaled] = {}
        self.fields: dict[fx.Node, Any] = {}
        self._origins: dict[fx.Node, frozenset[fx.Node]] = {}
        self._askers: dict[int, frozenset[fx.Node]] = {}
        self._by_tensor: dict[int, Scaled] = {}
        self._names: dict[int, str] = {}
        for request in self.requests.values():
            self._ask(request)
        for node in module.graph.nodes:
            self._visit(node)

    def _ask(self, request: _Request) -> None:
        node, factor = request.wanted.node, request.wanted.factor
        for name, (axis, rows) in (request.writers or {}).items():
            tensor = fetch(self.module, name)
            factors = torch.where(rows, factor, torch.ones((), dtype=torch.float64))
            held = self._by_tensor.get(id(tensor))
            if held is not None:
                both = (held.factors != 1.0) & rows
                if held.axis != axis or not torch.equal(held.factors[both], factors[both]):
                    self._blame(
                        self._askers[id(tensor)] | {node}, f"'{name}' is shared with a call of another scale"
                    )
                    continue
                factors = torch.where(rows, factors, held.factors)
            self._by_tensor[id(tensor)] = Scaled(axis, factors)
            self.scaled[self._names.setdefault(id(tensor), name)] = self._by_tensor[id(tensor)]
            self._askers[id(tensor)] = self._askers.get(id(tensor), frozenset()) | {node}

    def _blame(self, nodes: Iterable[fx.Node], reason: str) -> None:
        for node in nodes:
            self.blamed.setdefault(node, reason)

    def _visit(self, node: fx.Node) -> None:
        if node.op == "get_attr":
            tensor = fetch(self.module, str(node.target))
            scaled = self._by_tensor.get(id(tensor))
            if scaled is not None:
                column = scaled.factors.reshape(-1, *[1] * (tensor.dim() - 1 - scaled.axis))
                self._set(node, column.expand(tuple(tensor.shape)), self._askers[id(tensor)])
            return
        request = self.requests.get(node)
        reached = [n for n in node.all_input_nodes if n in self.fields]
        if not reached:
            if request is not None:
                self._blame([node], "the factor does not arrive")
            return
        origins = frozenset[fx.Node]().union(*(self._origins[n] for n in reached))
        if request is not None:
            target = operands(node, request.operand)
            read = [n for n in _tensors(node) if n in self.fields]
            if read != target or not _is(self.fields[read[0]], request.wanted.factor):
                self._blame(origins | {node}, "the factor would not reach its operand alone")
            return
        try:
            result = forward(node, self.fields) if node.op == "call_function" else None
            if node.op != "call_function":
                raise NotCarried
        except (NotCarried, RuntimeError):
            self._blame(origins, f"what writes it is also read by {node.name} ({node.target})")
            return
        if isinstance(result, (tuple, list)):
            self.fields[node], self._origins[node] = tuple(result), origins
        elif result is not None:
            self._set(node, result, origins)

    def _set(self, node: fx.Node, value: Tensor, origins: frozenset[fx.Node]) -> None:
        if not _is(value, 1.0):
            self.fields[node], self._origins[node] = value, origins


def _tensors(node: fx.Node) -> list[fx.Node]:
    """All tensor arguments of a call, as often as they are given."""
    return operands(node, *bind(node))


def _is(value: Any, factor: float) -> bool:
    """Whether a field is this factor everywhere."""
    if not isinstance(value, Tensor) or not value.numel():
        return isinstance(value, Tensor)
    low, high = torch.aminmax(value)
    return max(abs(float(low) - factor), abs(float(high) - factor)) <= TOLERANCE * factor
