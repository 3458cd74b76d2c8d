"""Checks a cut against the masked original, node by node.

Both programs run in lockstep on the same inputs. In the original, the removed positions of one operand are
zeroed at each contraction, where they are consumed: nothing relies on f(0) = 0. A norm, softmax or mean
over a cut axis is evaluated on the kept positions, which is what cutting means there. At every node the
cut value must equal the original at the kept positions. The terms of removed branches are computed and then
zeroed in the sum; the output of a bypassed block is what comes in.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from secateur.coupling import Groups, Mixing, Value, source_of
from secateur.errors import NotVerified
from secateur.graph import fetch, op_name
from secateur.surgery.compare import decides, has_nan, is_random, relative_error, rounding
from secateur.surgery.emit import Emitted
from secateur.surgery.moved import check_moved
from secateur.surgery.precise import PRECISE
from secateur.surgery.restricted import sizes_of_kept
from secateur.surgery.running import (
    EMPTY,
    Values,
    changed,
    copied,
    go_on_from,
    instead,
    last_uses,
    memory_of,
    nodes_in,
    telling,
    written,
)
from secateur.task import to_device

TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-3, torch.float16: 5e-2, torch.bfloat16: 1e-1}
"""Largest relative error accepted, by the lowest precision in the program."""

FROM_EQUAL_INPUTS = 1e-12
"""The same in double precision where every node goes on from what the reference has, so that its own rounding alone
counts."""


@dataclass(frozen=True)
class Verification:
    """The outcome of a check.

    Args:
        max_relative_error: largest ``|cut - reference| / max |reference|`` over outputs and every node.
        kind: ``"masked"``, or ``"restricted"`` where an operator over a cut axis was evaluated on what is kept, or a
            block that is no residual branch was bypassed.
        reference: how the reference was made, in words.
        nodes: how many nodes were compared.
        worst: the node with the largest error.
        at_outputs: the same error over the model's outputs alone; at a node inside, a difference of two nearly equal
            values can be small beside what it was computed from.
    """

    max_relative_error: float
    kind: str
    reference: str
    nodes: int
    worst: str
    at_outputs: float = 0.0


Expected = Callable[[fx.Node, Any], Any]
"""From a node of the original program and its value, what the other must have there."""


def verify(
    groups: Groups,
    emitted: Emitted,
    dtype: torch.dtype | None = None,
    tolerance: float | None = None,
    expected: Expected | None = None,
    points: Collection[fx.Node] | None = None,
    equal_inputs: bool = False,
) -> Verification:
    """Compares a cut program with the masked original on the example inputs.

    Args:
        groups: the original.
        emitted: the cut program.
        dtype: ``torch.float64`` runs both in double precision, internal casts included.
        tolerance: largest relative error accepted; by default that of the precision.
        expected: by default, the value at the kept positions.
        points: where to compare, besides the outputs; by default at every node of the original program.
        equal_inputs: every node goes on from what the reference has, so that no rounding adds up on the way. If each
            gives what it should from what it should read, so does the whole; a network that multiplies rounding is
            checked like any other. In double precision, and at every node, whatever ``points`` says.

    Raises:
        NotVerified: naming the first node that differs.
    """
    dtype = torch.float64 if equal_inputs else dtype
    with torch.no_grad():
        return _Lockstep(groups, emitted, dtype, tolerance, expected, points, equal_inputs).run()


class _Lockstep:
    def __init__(
        self,
        groups: Groups,
        emitted: Emitted,
        dtype: torch.dtype | None,
        tolerance: float | None,
        expected: Expected | None,
        points: Collection[fx.Node] | None,
        equal_inputs: bool,
    ) -> None:
        self.groups, self.coupling = groups, groups.coupling
        self.old, self.new, self.nodes = groups.graph.module, emitted.module, emitted.nodes
        self.sizes, self.dtype = emitted.sizes, dtype
        self.expected, self.equal_inputs = expected or self._kept_at, equal_inputs
        self.points = None if equal_inputs else points
        self.removal, self.own = groups.removal, memory_of(self.new) if equal_inputs else frozenset()
        self.device = next((t.device for t in self._tensors()), torch.device("cpu"))
        floats = [t.dtype for t in self._tensors() if t.is_floating_point()]
        lowest = dtype or min(floats, key=lambda d: torch.finfo(d).bits, default=torch.float32)
        usual = FROM_EQUAL_INPUTS if equal_inputs else TOLERANCES.get(lowest, 1e-3)
        self.tolerance = usual if tolerance is None else tolerance
        self.origins = {new: old for old, new in emitted.nodes.items()}
        self.written = written(self.old.graph) | written(self.new.graph)
        self.reference = Values(lambda node: self._fetch(self.old, node))
        self.cut = Values(lambda node: self._fetch(self.new, node))
        self.worst, self.worst_node, self.compared, self.restricted = 0.0, "-", 0, False
        self.returned = {
            n for output in self.old.graph.find_nodes(op="output") for n in output.all_input_nodes
        }
        self.at_outputs = 0.0

    def _tensors(self) -> list[Tensor]:
        return [self.groups.graph.tensor(n) for n in self.groups.graph.state_names()]

    def run(self) -> Verification:
        inputs = iter(self._inputs())
        last = last_uses(self.old.graph, self.removal.bypassed)
        last_new = last_uses(self.new.graph)
        pending = iter(self.new.graph.nodes)
        unseen = self.removal.unseen
        self._nothing_left_over()
        for node in self.old.graph.nodes:
            if node.op == "output":
                self._compare_outputs(node)
                break
            if node in unseen:
                continue
            if node.op == "placeholder":
                value = next(inputs)
                # Each side has its own: a program may write over its inputs.
                self.reference[node], self.cut[self.nodes[node]] = copied(value), copied(value)
                continue
            if not self._read_again(node):
                self.reference[node] = self._reference(node)
            if node not in self.removal.gone:
                self._run_new_until(pending, node)
                if self.points is None or node in self.points:
                    self._compare(node, self.cut[self.nodes[node]])
                    if self.equal_inputs:
                        expected = self.expected(node, self.reference[node])
                        go_on_from(expected, self.cut[self.nodes[node]], self.own)
                if node not in self.removal.bypassed:
                    check_moved(node, self.nodes, self.coupling, self.sizes, self.reference, self.cut)
                for done in last_new.get(self.nodes[node], ()):
                    self.cut.pop(done, None)
            for done in last.get(node, ()):
                self.reference.pop(done, None)
        words = "the original with removed positions zeroed where they are consumed"
        if self.restricted:
            words += "; norms, softmax, means and windows over a cut axis evaluated on the kept positions"
        if self.removal.dropped:
            words += "; what removed branches add zeroed"
        if self.removal.bypassed:
            words += "; removed blocks bypassed"
        if self.equal_inputs:
            words += (
                "; every node compared from what the original has before it, since rounding grows on the way"
            )
        kind = "restricted" if self.restricted or self.removal.bypassed else "masked"
        return Verification(self.worst, kind, words, self.compared, self.worst_node, self.at_outputs)

    def _inputs(self) -> list[Any]:
        graph = self.groups.graph
        flat, _ = torch.utils._pytree.tree_flatten((graph.args, dict(graph.kwargs)))
        return [self._promote(telling(to_device(v, self.device))) for v in flat]

    # -- running -------------------------------------------------------------------------------------

    def _promote(self, value: Any) -> Any:
        if self.dtype is not None and isinstance(value, Tensor):
            if value.is_floating_point():
                return value.to(self.dtype)
            if value.is_complex():
                return value.to(self.dtype.to_complex())
        return value

    def _read_again(self, node: fx.Node) -> bool:
        """Whether a node's value is made anew whenever it is read, rather than kept."""
        return node.op == "get_attr" and node not in self.written

    def _fetch(self, module: fx.GraphModule, node: fx.Node) -> Any:
        if node.target == "training":
            return False
        value = fetch(module, str(node.target))
        return copied(self._promote(value)) if node in self.written else value

    def _operand(self, values: dict[fx.Node, Any], node: fx.Node) -> Any:
        """A node's value for a call; state is promoted for each use, so that not all of it is held twice."""
        return self._promote(values[node]) if node.op == "get_attr" else values[node]

    def _call(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        if self.dtype is not None:
            args, kwargs = fx.node.map_aggregate((args, kwargs), self._promote_dtype)
        run = PRECISE.get(op_name(node), node.target) if self.dtype == torch.float64 else node.target
        assert callable(run)
        result = run(*args, **kwargs)
        if op_name(node) in EMPTY:  # what memory holds is no one's value, but parts of it may be compared
            result = torch.zeros_like(result)
        return fx.node.map_aggregate(result, self._promote) if self.dtype is not None else result

    def _promote_dtype(self, value: Any) -> Any:
        if value in (torch.float32, torch.float16, torch.bfloat16):
            return self.dtype
        if value == torch.complex64 and self.dtype is not None:
            return self.dtype.to_complex()
        return value

    def _run_new_until(self, pending: Any, old: fx.Node) -> None:
        target = self.nodes[old]
        for node in () if target in self.cut else pending:
            if node.op == "get_attr":
                if not self._read_again(node):
                    self.cut[node] = self._fetch(self.new, node)
            elif node.op == "call_function":
                choice = node is target and decides(node, self.reference[old])
                read = self._agreed if choice else lambda n: self._operand(self.cut, n)
                args, kwargs = fx.map_arg((node.args, node.kwargs), read)
                try:
                    self.cut[node] = self._call(node, args, kwargs)
                except Exception as error:
                    raise NotVerified(
                        f"the cut program does not run at {node.name} ({node.target}): "
                        f"{str(error).splitlines()[0] if str(error) else type(error).__name__}",
                        node.name,
                    ) from error
            if node is target:
                return

    def _agreed(self, node: fx.Node) -> Any:
        """A value of the cut program as the reference has it, with which it was found to agree.

        What decides between values (the largest of them, which are above a threshold) would turn rounding into
        another answer where two are equal.
        """
        old = self.origins.get(node)
        found = self._operand(self.cut, node)
        if (
            old is None
            or old not in self.reference
            or not isinstance(found, Tensor)
            or not found.is_floating_point()
        ):
            return found
        kept = self.expected(old, self.reference[old])
        return kept if kept.shape == found.shape else found

    def _reference(self, node: fx.Node) -> Any:
        if node.op == "get_attr":
            return self._fetch(self.old, node)
        if node in self.removal.bypassed:
            return copied(self.reference[self.removal.bypassed[node]])
        mixings = [m for m in self.coupling.mixings.get(node, ()) if not self.sizes.whole(m.labels)]
        if any(m.restricts for m in mixings):
            return self._restricted(node)
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: self._operand(self.reference, n))
        for mixing in mixings:
            args, kwargs = self._mask(node, mixing, args, kwargs)
        for name in self.removal.dropped.get(node, ()):
            args, kwargs = changed(node, name, args, kwargs, torch.zeros_like)
        return self._call(node, args, kwargs)

    def _mask(self, node: fx.Node, mixing: Mixing, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """The call's arguments, with the removed positions of one of them zeroed along one axis."""
        name, _, item = mixing.argument.partition(".")

        def masked(given: Any) -> Any:
            tensor = given[int(item)] if item else given
            shape = [1] * tensor.dim()
            shape[mixing.axis] = -1
            mask = torch.from_numpy(self.sizes.mask(mixing.labels)).to(tensor.device).reshape(shape)
            zero = torch.zeros((), dtype=tensor.dtype, device=tensor.device)
            kept = torch.where(mask, tensor, zero)
            return [kept if i == int(item) else t for i, t in enumerate(given)] if item else kept

        return changed(node, name, args, kwargs, masked)

    def _restricted(self, node: fx.Node) -> Any:
        """The operator on the kept positions, its result spread over the original shape.

        Its arguments are those of the original, sizes apart, and these are found here: taking them from the cut
        program would let a wrong rewrite agree with itself.
        """
        self.restricted = True

        def operand(n: fx.Node) -> Any:
            return self._kept(self._operand(self.reference, n), self.coupling.values.get(n))

        args, kwargs = fx.map_arg((node.args, node.kwargs), operand)
        for name, value in sizes_of_kept(node, args, self.coupling, self.sizes).items():
            args, kwargs = changed(node, name, args, kwargs, functools.partial(instead, value))
        try:
            value = self._call(node, args, kwargs)
        except Exception as error:
            words = (str(error).splitlines() or [type(error).__name__])[0]
            raise NotVerified(
                f"{node.name} ({node.target}) cannot be evaluated on the kept positions: {words}; if it is an operator "
                "of your own, its arguments that hold sizes belong into Operator(sizes=...)",
                node.name,
            ) from error
        if has_nan(value) and not has_nan((args, kwargs)):
            raise NotVerified(
                f"{node.name} ({node.target}, {source_of(node)}) gives NaN on the kept positions alone, as the "
                "deviation of a single one does: keep more of them; nothing was changed",
                node.name,
            )
        return self._spread(value, self.coupling.values[node])

    def _kept(self, value: Any, axes: Any) -> Any:
        if isinstance(value, (tuple, list)) and isinstance(axes, list):
            return type(value)(self._kept(v, a) for v, a in zip(value, axes, strict=True))
        return self.sizes.take(value, axes.axes) if isinstance(axes, Value) else value

    def _spread(self, value: Any, axes: Any) -> Any:
        if isinstance(value, (tuple, list)) and isinstance(axes, list):
            return tuple(self._spread(v, a) for v, a in zip(value, axes, strict=True))
        for dim, axis in enumerate(axes.axes):
            if not self.sizes.whole(axis):
                shape = list(value.shape)
                shape[dim] = len(axis)
                full = value.new_zeros(shape)
                value = full.index_copy_(dim, self.sizes.indices(axis).to(value.device), value)
        return value

    # -- comparing -----------------------------------------------------------------------------------

    def _kept_at(self, node: fx.Node, value: Any) -> Any:
        return self._kept(value, self.coupling.values.get(node))

    def _nothing_left_over(self) -> None:
        """What went with a removed block must not be read any more: its small values might not show."""
        read = {str(n.target) for n in self.new.graph.nodes if n.op == "get_attr"}
        for name in sorted(read & self.removal.state):
            raise NotVerified(f"the cut program still reads '{name}', which went with a removed block", name)

    def _compare_outputs(self, node: fx.Node) -> None:
        """The outputs once more: that each is wired to the node it should be."""
        (new,) = (n for n in self.new.graph.nodes if n.op == "output")
        for old, one in zip(nodes_in(node.args), nodes_in(new.args), strict=True):
            self._compare(old, self.cut[one])

    def _compare(self, node: fx.Node, found: Any) -> None:
        expected = self.expected(node, self.reference[node])
        pairs = (
            list(zip(expected, found, strict=True))
            if isinstance(expected, (tuple, list))
            else [(expected, found)]
        )
        if is_random(node):
            return
        # What an output reads may be gone by the time the outputs are compared once more.
        held = [n for n in node.all_input_nodes if n in self.reference or n.op == "get_attr"]
        read = [self.reference[n] for n in held]
        for reference, cut in pairs:
            if not isinstance(reference, Tensor):
                continue
            error = relative_error(cut, reference)
            self.compared += 1
            if not error <= self.tolerance and rounding(node, cut, reference, read):
                self.cut[self.nodes[node]] = reference.clone()  # go on from one of the two
                continue
            if node in self.returned:
                self.at_outputs = max(self.at_outputs, error)
            if not error <= self.worst:
                self.worst, self.worst_node = error, node.name
            if not error <= self.tolerance:
                raise NotVerified(
                    f"the cut differs from the masked original at {node.name} ({node.target}, {source_of(node)}): "
                    f"relative error {error:.3g}, at most {self.tolerance:g} accepted; nothing was changed",
                    node.name,
                )
