"""Operators whose arguments hold sizes: what those arguments become after a cut.

One visible table, keyed by operator name. A rewrite sees the call in the new program (whose arguments it
changes), the values of the old one, and the new sizes; it may return a node that stands for the call from there on.
Operators that hold no sizes need no entry.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from secateur.coupling import LITERAL, Axes, Axis, Operator, Value, bind, literal_indices
from secateur.graph import hint
from secateur.surgery.sizes import Sizes


@dataclass(frozen=True)
class Call:
    """One call to rewrite.

    Args:
        old: the node in the original program.
        new: its copy in the cut program.
        values: labelled values of the original program.
        notes: axes that the rule kept for this node.
        sizes: new sizes.
        state: tensors of the new program by name; a rewrite may add constants.
    """

    old: fx.Node
    new: fx.Node
    values: Mapping[fx.Node, Any]
    notes: Mapping[str, Axis]
    sizes: Sizes
    state: dict[str, Any]

    def constant(self, value: Tensor) -> fx.Node:
        """A constant of the new program, on the call's device, read just before the call."""
        # A program that was cut before has constants of this kind already.
        taken = {str(n.target) for n in self.old.graph.find_nodes(op="get_attr")} | self.state.keys()
        names = (f"{LITERAL}{self.old.name}_{i}" for i in itertools.count())
        name = next(n for n in names if n not in taken)
        self.state[name] = value.to(self.old.meta["val"].device)
        with self.new.graph.inserting_before(self.new):
            return self.new.graph.create_node("get_attr", name)

    def value(self, name: str) -> Value:
        """A tensor argument's value in the original program."""
        found: Value = self.values[bind(self.old)[name]]
        return found

    def output(self) -> Axes:
        """Axes of the (first) output."""
        value = self.values[self.old]
        found: Value = value[0] if isinstance(value, list) else value
        return found.axes

    def dim(self, value: Value) -> int:
        """The non-negative ``dim`` argument."""
        return int(bind(self.old)["dim"]) % len(value)

    def set(self, **arguments: Any) -> None:
        """Replaces arguments of the new call by name."""
        named = {**bind(self.new), **arguments}
        schema = self.new.target._schema  # type: ignore[union-attr]
        self.new.args = tuple(named[x.name] for x in schema.arguments if not x.kwarg_only)
        self.new.kwargs = {
            x.name: named[x.name]
            for x in schema.arguments
            if x.kwarg_only and (x.name in self.new.kwargs or x.name in arguments)
        }

    def size(self, given: Any, axis: Axis) -> Any:
        """The new length of an axis where ``given`` stood: a number, -1, or arithmetic on the batch."""
        before, after = len(axis), self.sizes.of(axis)
        if isinstance(given, fx.Node):
            if before == after:
                return given
            with self.new.graph.inserting_before(self.new):
                scaled = self.new.graph.call_function(operator.mul, (given, after))
                return self.new.graph.call_function(operator.floordiv, (scaled, before))
        return -1 if given == -1 else after

    def shape(self, given: Sequence[Any]) -> list[Any]:
        """The output's new shape in place of ``given``; symbolic entries stay symbolic."""
        axes = self.output()
        return [self.size(g, a) for g, a in zip(given, axes, strict=True)]


def _view(call: Call) -> None:
    arguments = bind(call.new)
    name = "size" if "size" in arguments else "shape"
    given = arguments[name]
    batch = [g for g in given if isinstance(g, fx.Node)]
    entries = call.shape(given)
    # One symbolic entry is best left to the view itself: -1 is right whatever the batch.
    if len(batch) == 1 and -1 not in entries:
        entries = [-1 if isinstance(e, fx.Node) else e for e in entries]
    call.set(**{name: entries})
    # Kernels may lay out a smaller result in another way, of which no view in the new shape exists.
    if call.new.target is torch.ops.aten.view.default and not all(map(call.sizes.whole, call.output())):
        call.new.target = torch.ops.aten.reshape.default


def _reshape_as(call: Call) -> None:
    """Becomes a reshape to the new shape: the other tensor may be cut otherwise."""
    old_shape = call.old.meta["val"].shape
    entries: list[Any] = list(call.sizes.shape(call.output()))
    symbolic = [i for i, s in enumerate(old_shape) if not isinstance(s, int)]
    if len(symbolic) > 1:
        return
    for i in symbolic:
        entries[i] = -1
    call.new.target = torch.ops.aten.reshape.default
    call.new.args, call.new.kwargs = (call.new.args[0], entries), {}


def _unflatten(call: Call) -> None:
    dim = call.dim(call.value("self"))
    given = bind(call.new)["sizes"]
    axes = call.output()[dim : dim + len(given)]
    call.set(sizes=[call.size(g, a) for g, a in zip(given, axes, strict=True)])


def _expand(call: Call) -> None:
    call.set(size=call.shape(bind(call.new)["size"]))


def _repeat(call: Call) -> None:
    name = "repeats" if "repeats" in bind(call.new) else "dims"
    given = list(bind(call.new)[name])
    offset = len(call.output()) - len(given)
    call.set(**{name: [call.size(g, call.notes[f"times{i + offset}"]) for i, g in enumerate(given)]})


def _repeat_interleave(call: Call) -> None:
    if "times" not in call.notes:
        return
    call.set(repeats=call.sizes.of(call.notes["times"]))
    given = bind(call.new)["output_size"]
    if given is not None:
        call.set(output_size=call.size(given, call.output()[call.dim(call.value("self"))]))


def _as_complex(call: Call) -> None:
    """A cut, here or in what lies beside it in memory, may leave rows of odd length: these are copied first."""
    with call.new.graph.inserting_before(call.new):
        copied = call.new.graph.call_function(torch.ops.aten.contiguous.default, (call.new.args[0],))
    call.new.args = (copied,)


def _created(call: Call) -> None:
    call.set(size=call.shape(bind(call.new)["size"]))


def _selected(call: Call) -> fx.Node:
    """Positions are made as they were, and those that are kept are selected."""
    node = call.new
    for dim, axis in enumerate(call.output()):
        if not call.sizes.whole(axis):
            kept = call.constant(call.sizes.indices(axis))
            node = node.graph.call_function(torch.ops.aten.index_select.default, (node, dim, kept))
    return node


def _index(call: Call) -> None:
    """Indices written in the code point to where the positions are now; those of positions that went are left out."""
    if "looked_up" not in call.notes:
        return
    axis = call.notes["looked_up"]
    found = literal_indices(call.old, len(axis))
    assert found is not None
    dim, positions = found
    if call.sizes.whole(axis):
        return
    mask = call.sizes.mask(axis)
    moved = torch.from_numpy((np.cumsum(mask) - 1)[positions[mask[positions]]])
    if "index" in bind(call.new):
        call.set(index=call.constant(moved))
    else:
        given = list(bind(call.new)["indices"])
        given[dim] = call.constant(moved)
        call.set(indices=given)


def _slice(call: Call) -> None:
    value = call.value("self")
    dim = call.dim(value)
    axis = value[dim]
    if call.sizes.whole(axis):
        return
    given = bind(call.old)
    first, last = (None if v is None else hint(_number(v)) for v in (given["start"], given["end"]))
    start, stop, step = slice(first, last, hint(given["step"])).indices(len(axis))
    # All of an axis, however long the batch makes it; or a split with its phase pinned, where the phase stays.
    if step > 1 or (start == 0 and stop == len(axis)):
        call.set(start=start, end=2**63 - 1)
        return
    begin = call.sizes.before(axis, start)
    call.set(start=begin, end=begin + call.sizes.of(axis[start : max(start, stop)]))


def _narrow(call: Call) -> None:
    value, given = call.value("self"), bind(call.old)
    axis = value[call.dim(value)]
    if call.sizes.whole(axis):
        return
    start, length = hint(_number(given["start"])), hint(_number(given["length"]))
    kept = call.sizes.of(axis[start : start + length])
    whole = length == len(axis)
    call.set(
        start=call.sizes.before(axis, start),
        length=call.size(bind(call.new)["length"], axis) if whole else kept,
    )


def _select(call: Call) -> None:
    value = call.value("self")
    axis = value[call.dim(value)]
    if not call.sizes.whole(axis):
        call.set(index=call.sizes.before(axis, hint(_number(bind(call.old)["index"])) % len(axis)))


def _split(call: Call) -> None:
    """Any kind of split becomes a split with explicit sizes."""
    value = call.value("self")
    dim = call.dim(value)
    if call.sizes.whole(value[dim]):
        return
    parts = [call.sizes.of(part[dim]) for part in call.values[call.old]]
    call.new.target = torch.ops.aten.split_with_sizes.default
    call.new.args, call.new.kwargs = (call.new.args[0], parts, dim), {}


def _convolution(call: Call) -> None:
    if "groups" in call.notes:
        call.set(groups=call.sizes.of(call.notes["groups"]))


def _group_norm(call: Call) -> None:
    call.set(num_groups=call.sizes.of(call.notes["groups"]))


def _channel_shuffle(call: Call) -> None:
    call.set(groups=call.sizes.of(call.notes["groups"]))


def _layer_norm(call: Call) -> None:
    count = len(bind(call.new)["normalized_shape"])
    call.set(normalized_shape=list(call.sizes.shape(call.value("input").axes[-count:])))


def _pad(call: Call) -> None:
    value, pads = call.value("self"), list(bind(call.new)["pad"])
    for back in range(1, len(pads) // 2 + 1):
        dim = len(value) - back
        if f"before{dim}" in call.notes:
            pads[2 * back - 2] = call.sizes.of(call.notes[f"before{dim}"])
            pads[2 * back - 1] = call.sizes.of(call.notes[f"after{dim}"])
    call.set(pad=pads)


DEFAULT_SCALE = "secateur_default_scale"
"""Marks a prepared attention whose weights took the factor: its scale is the default one of the new size."""


def _attention(call: Call) -> None:
    """The default scale is one over the root of the original head dimension: write it out where it is not folded."""
    query = call.value("query")
    if call.old.meta.get(DEFAULT_SCALE):
        call.set(scale=None)
    elif bind(call.new)["scale"] is None and not call.sizes.whole(query[-1]):
        call.set(scale=1.0 / math.sqrt(len(query[-1])))


def _number(value: Any) -> Any:
    return value.meta["val"] if isinstance(value, fx.Node) else value


Rewrite = Callable[[Call], fx.Node | None]
"""Changes a call; returns the node that stands for it where that is another."""

REWRITES: Mapping[str, Rewrite] = {
    **dict.fromkeys(("aten::view", "aten::reshape", "aten::_unsafe_view"), _view),
    **dict.fromkeys(("aten::reshape_as", "aten::view_as"), _reshape_as),
    "aten::unflatten": _unflatten,
    **dict.fromkeys(("aten::expand", "aten::broadcast_to"), _expand),
    **dict.fromkeys(("aten::repeat", "aten::tile"), _repeat),
    "aten::repeat_interleave": _repeat_interleave,
    "aten::view_as_complex": _as_complex,
    **dict.fromkeys(
        ("aten::zeros", "aten::ones", "aten::full", "aten::empty", "aten::new_zeros", "aten::new_ones",
         "aten::new_full", "aten::new_empty", "aten::rand", "aten::randn"),
        _created,
    ),
    **dict.fromkeys(
        ("aten::arange", "aten::linspace", "aten::logspace", "aten::eye", "aten::hann_window",
         "aten::hamming_window"),
        _selected,
    ),
    **dict.fromkeys(("aten::index", "aten::index_select"), _index),
    "aten::slice": _slice,
    "aten::narrow": _narrow,
    "aten::select": _select,
    **dict.fromkeys(
        ("aten::split", "aten::split_with_sizes", "aten::chunk", "aten::tensor_split", "aten::unsafe_chunk",
         "aten::unsafe_split"),
        _split,
    ),
    **dict.fromkeys(
        ("aten::conv1d", "aten::conv2d", "aten::conv3d", "aten::convolution", "aten::conv_transpose1d",
         "aten::conv_transpose2d", "aten::conv_transpose3d"),
        _convolution,
    ),
    "aten::group_norm": _group_norm,
    **dict.fromkeys(("aten::channel_shuffle", "aten::native_channel_shuffle"), _channel_shuffle),
    **dict.fromkeys(("aten::layer_norm", "aten::rms_norm"), _layer_norm),
    **dict.fromkeys(("aten::pad", "aten::constant_pad_nd"), _pad),
    "aten::scaled_dot_product_attention": _attention,
}  # fmt: skip


def rewrite_of(name: str, taught: Mapping[str, Operator]) -> Rewrite | None:
    """What changes the calls of an operator: as the user says, who may know one of the table's better."""
    operator = taught.get(name)
    if operator is None or not (operator.sizes or operator.rewrite):
        return REWRITES.get(name)

    def both(call: Call) -> None:
        axes = operator.axes_of_sizes(call.old, call.values, call.notes)
        if axes:
            given = bind(call.new)
            call.set(**{argument: call.size(given[argument], axis) for argument, axis in axes.items()})
        if operator.rewrite is not None:
            operator.rewrite(call)

    return both
