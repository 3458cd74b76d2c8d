"""Checks a cut against the masked original, node by node.

Both programs run in lockstep on the same inputs. In the original, the removed positions of one operand are
zeroed at each contraction, where they are consumed: nothing relies on f(0) = 0. A norm, softmax or mean
over a cut axis is evaluated on the kept positions, which is what cutting means there. At every node the
cut value must equal the original at the kept positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from secateur.coupling import Groups, Mixing, Value, bind, source_of
from secateur.errors import NotVerified
from secateur.graph import fetch, op_name
from secateur.surgery.compare import decides, has_nan, is_random, relative_error, rounding
from secateur.surgery.emit import Emitted
from secateur.task import to_device

TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-3, torch.float16: 5e-2, torch.bfloat16: 1e-1}
"""Largest relative error accepted, by the lowest precision in the program."""


@dataclass(frozen=True)
class Verification:
    """The outcome of a check.

    Args:
        max_relative_error: largest ``|cut - reference| / max |reference|`` over outputs and every node.
        kind: ``"masked"``, or ``"restricted"`` where an operator over a cut axis was evaluated on what is kept.
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
"""From a node of the original program and its value, what the other must have there; None for no comparison."""


def verify(
    groups: Groups,
    emitted: Emitted,
    dtype: torch.dtype | None = None,
    tolerance: float | None = None,
    expected: Expected | None = None,
) -> Verification:
    """Compares a cut program with the masked original on the example inputs.

    Args:
        groups: the original.
        emitted: the cut program.
        dtype: ``torch.float64`` runs both in double precision, internal casts included.
        tolerance: largest relative error accepted; by default that of the precision.
        expected: by default, the value at the kept positions.

    Raises:
        NotVerified: naming the first node that differs.
    """
    with torch.no_grad():
        return _Lockstep(groups, emitted, dtype, tolerance, expected).run()


class _Lockstep:
    def __init__(
        self,
        groups: Groups,
        emitted: Emitted,
        dtype: torch.dtype | None,
        tolerance: float | None,
        expected: Expected | None,
    ) -> None:
        self.groups, self.coupling = groups, groups.coupling
        self.old, self.new, self.nodes = groups.graph.module, emitted.module, emitted.nodes
        self.sizes, self.dtype = emitted.sizes, dtype
        self.expected = expected or self._kept_at
        self.device = next((t.device for t in self._tensors()), torch.device("cpu"))
        floats = [t.dtype for t in self._tensors() if t.is_floating_point()]
        lowest = dtype or min(floats, key=lambda d: torch.finfo(d).bits, default=torch.float32)
        self.tolerance = TOLERANCES.get(lowest, 1e-3) if tolerance is None else tolerance
        self.origins = {new: old for old, new in emitted.nodes.items()}
        self.written = _written(self.old.graph) | _written(self.new.graph)
        self.reference = _Values(lambda node: self._fetch(self.old, node))
        self.cut = _Values(lambda node: self._fetch(self.new, node))
        self.worst, self.worst_node, self.compared, self.restricted = 0.0, "-", 0, False
        self.returned = {
            n for output in self.old.graph.find_nodes(op="output") for n in output.all_input_nodes
        }
        self.at_outputs = 0.0

    def _tensors(self) -> list[Tensor]:
        return [self.groups.graph.tensor(n) for n in self.groups.graph.state_names()]

    def run(self) -> Verification:
        inputs = iter(self._inputs())
        last = self._last_uses(self.old.graph)
        last_new = self._last_uses(self.new.graph)
        pending = iter(self.new.graph.nodes)
        for node in self.old.graph.nodes:
            if node.op == "output":
                break
            if node.op == "placeholder":
                value = next(inputs)
                # Each side has its own: a program may write over its inputs.
                self.reference[node], self.cut[self.nodes[node]] = _copy(value), _copy(value)
                continue
            if not self._read_again(node):
                self.reference[node] = self._reference(node)
            self._run_new_until(pending, node)
            self._compare(node)
            for done in last.get(node, ()):
                self.reference.pop(done, None)
            for done in last_new.get(self.nodes[node], ()):
                self.cut.pop(done, None)
        words = "the original with removed positions zeroed where they are consumed"
        if self.restricted:
            words += "; norms, softmax, means and windows over a cut axis evaluated on the kept positions"
        return Verification(
            self.worst, "restricted" if self.restricted else "masked", words, self.compared, self.worst_node,
            self.at_outputs,
        )  # fmt: skip

    def _inputs(self) -> list[Any]:
        graph = self.groups.graph
        flat, _ = torch.utils._pytree.tree_flatten((graph.args, dict(graph.kwargs)))
        return [self._promote(_telling(to_device(v, self.device))) for v in flat]

    @staticmethod
    def _last_uses(graph: fx.Graph) -> dict[fx.Node, list[fx.Node]]:
        last: dict[fx.Node, fx.Node] = {}
        for node in graph.nodes:
            for used in node.all_input_nodes:
                last[used] = node
        out: dict[fx.Node, list[fx.Node]] = {}
        for used, user in last.items():
            out.setdefault(user, []).append(used)
        return out

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
        return _copy(self._promote(value)) if node in self.written else value

    def _operand(self, values: dict[fx.Node, Any], node: fx.Node) -> Any:
        """A node's value for a call; state is promoted for each use, so that not all of it is held twice."""
        return self._promote(values[node]) if node.op == "get_attr" else values[node]

    def _call(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        if self.dtype is not None:
            args, kwargs = fx.node.map_aggregate((args, kwargs), self._promote_dtype)
        assert callable(node.target)
        result = node.target(*args, **kwargs)
        if op_name(node) in _EMPTY:  # what memory holds is no one's value, but parts of it may be compared
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
        for node in pending:
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
        kept = self._kept(self.reference[old], self.coupling.values.get(old))
        return kept if kept.shape == found.shape else found

    def _reference(self, node: fx.Node) -> Any:
        if node.op == "get_attr":
            return self._fetch(self.old, node)
        mixings = [m for m in self.coupling.mixings.get(node, ()) if not self.sizes.whole(m.labels)]
        if any(m.restricts for m in mixings):
            return self._restricted(node)
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: self._operand(self.reference, n))
        for mixing in mixings:
            args, kwargs = self._mask(node, mixing, args, kwargs)
        return self._call(node, args, kwargs)

    def _mask(self, node: fx.Node, mixing: Mixing, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """The call's arguments, with the removed positions of one of them zeroed along one axis."""
        name, _, item = mixing.argument.partition(".")
        position, in_args = _place(node, name, args)
        given = args[position] if in_args else kwargs[name]
        tensor = given[int(item)] if item else given
        shape = [1] * tensor.dim()
        shape[mixing.axis] = -1
        mask = torch.from_numpy(self.sizes.mask(mixing.labels)).to(tensor.device).reshape(shape)
        masked: Any = torch.where(mask, tensor, torch.zeros((), dtype=tensor.dtype, device=tensor.device))
        if item:
            masked = [masked if i == int(item) else t for i, t in enumerate(given)]
        if in_args:
            return (*args[:position], masked, *args[position + 1 :]), kwargs
        return args, {**kwargs, name: masked}

    def _restricted(self, node: fx.Node) -> Any:
        """The operator on the kept positions, its result spread over the original shape.

        Its arguments are those of the original, sizes apart, and these are found here: taking them from the cut
        program would let a wrong rewrite agree with itself.
        """
        self.restricted = True

        def operand(n: fx.Node) -> Any:
            return self._kept(self._operand(self.reference, n), self.coupling.values.get(n))

        args, kwargs = fx.map_arg((node.args, node.kwargs), operand)
        for name, value in self._sizes_of(node, args, kwargs).items():
            position, in_args = _place(node, name, args)
            if in_args:
                args = (*args[:position], value, *args[position + 1 :])
            else:
                kwargs = {**kwargs, name: value}
        value = self._call(node, args, kwargs)
        if has_nan(value) and not has_nan((args, kwargs)):
            raise NotVerified(
                f"{node.name} ({node.target}, {source_of(node)}) gives NaN on the kept positions alone, as the "
                "deviation of a single one does: keep more of them; nothing was changed",
                node.name,
            )
        return self._spread(value, self.coupling.values[node])

    def _sizes_of(self, node: fx.Node, args: Any, kwargs: Any) -> dict[str, Any]:
        """Arguments that hold sizes, for the kept positions of a norm, an attention or an operator that was taught."""
        given, kind = bind(node), op_name(node)
        taught = self.coupling.operators.get(kind)
        if taught is not None and taught.sizes:
            notes = self.coupling.facts.notes.get(node, {})
            axes = taught.axes_of_sizes(node, self.coupling.values, notes)
            return {name: self.sizes.of(axis) for name, axis in axes.items()}
        if kind in ("aten::layer_norm", "aten::rms_norm"):
            count = len(given["normalized_shape"])
            return {"normalized_shape": list(args[0].shape[-count:])}
        if kind == "aten::group_norm":
            channel = self.coupling.values[given["input"]][1]
            kept = self.sizes.indices(channel) // (len(channel) // given["num_groups"])
            return {"num_groups": len(kept.unique())}
        if kind == "aten::scaled_dot_product_attention" and given["scale"] is None:
            return {"scale": len(self.coupling.values[given["query"]][-1]) ** -0.5}
        return {}

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

    def _compare(self, node: fx.Node) -> None:
        expected = self.expected(node, self.reference[node])
        found = self.cut[self.nodes[node]]
        pairs = (
            list(zip(expected, found, strict=True))
            if isinstance(expected, (tuple, list))
            else [(expected, found)]
        )
        if is_random(node):
            return
        read = [self.reference[n] for n in node.all_input_nodes]
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


class _Values(dict[fx.Node, Any]):
    """Values of a program's nodes. Its parameters all stand at the top, and in another precision they would all be
    copied at once: what is not held is read from the program when it is asked for."""

    def __init__(self, read: Callable[[fx.Node], Any]) -> None:
        super().__init__()
        self.read = read

    def __missing__(self, node: fx.Node) -> Any:
        return self.read(node)


def _place(node: fx.Node, name: str, args: Any) -> tuple[int, bool]:
    """Where an argument stands by its schema, and whether it is given by position."""
    names = [a.name for a in node.target._schema.arguments]  # type: ignore[union-attr]
    position = names.index(name) if name in names else len(names)
    return position, position < len(args)


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _written(graph: fx.Graph) -> set[fx.Node]:
    """State that the program writes to, directly or through a view: it must not be the user's own."""
    found = set()
    for node in graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if schema is not None and schema.is_mutable:
            while node.op == "call_function" and node.all_input_nodes:
                node = node.all_input_nodes[0]
            found.add(node)
    return found


def _telling(value: Any) -> Any:
    """An input that can tell programs apart: noise in place of constant zeros, which would make any two agree."""
    if not isinstance(value, Tensor) or not value.is_floating_point() or bool(value.any()):
        return value
    generator = torch.Generator().manual_seed(0)
    return torch.randn(value.shape, generator=generator).to(value.device, value.dtype)


_EMPTY = frozenset(f"aten::{n}" for n in ("empty", "empty_like", "new_empty"))
