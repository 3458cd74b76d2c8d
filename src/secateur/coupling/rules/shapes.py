"""Operators that only rearrange: reshapes, permutations, expansions, concatenations."""

from __future__ import annotations

from torch import fx

from secateur.coupling.facts import Axes, Axis, Facts
from secateur.coupling.rules.creation import free
from secateur.coupling.rules.pointwise import broadcast
from secateur.coupling.values import Arguments, Value, op_name
from secateur.graph import hint


def reshape(f: Facts, a: Arguments) -> Axes:
    """Any row-major reshape; the target shape is the output's."""
    return f.reshape(a.self.axes, a.self.shape, a.shape)


def permute(f: Facts, a: Arguments) -> Axes:
    """``dims`` in the new order."""
    return tuple(a.self[d] for d in a.dims)


def transpose(f: Facts, a: Arguments) -> Axes:
    """Swaps two axes; ``t``, ``T``, ``mT`` swap the last two (or reverse all)."""
    axes = list(a.self.axes)
    first = a.get("dim0", a.get("axis0"))
    if first is None:
        return tuple(axes[::-1]) if len(axes) < 3 else (*axes[:-2], axes[-1], axes[-2])
    second = a.get("dim1", a.get("axis1"))
    axes[first], axes[second] = axes[second], axes[first]
    return tuple(axes)


def reverse(f: Facts, a: Arguments) -> Axes:
    """``Tensor.T``: all axes in reverse."""
    return a.self.axes[::-1]


def movedim(f: Facts, a: Arguments) -> Axes:
    """Moves axes from ``source`` to ``destination``."""
    source = [s % len(a.self) for s in _list(a.source)]
    destination = [d % len(a.self) for d in _list(a.destination)]
    out: list[Axis | None] = [None] * len(a.self)
    for s, d in zip(source, destination, strict=True):
        out[d] = a.self[s]
    rest = iter([axis for i, axis in enumerate(a.self.axes) if i not in source])
    return tuple(next(rest) if axis is None else axis for axis in out)


def unsqueeze(f: Facts, a: Arguments) -> Axes:
    """A new axis of size one."""
    dim = a.dim_value if "dim_value" in a.values else int(a.values["dim"]) % (len(a.self) + 1)
    return (*a.self.axes[:dim], f.pinned(1), *a.self.axes[dim:])


def squeeze(f: Facts, a: Arguments) -> Axes:
    """Drops axes of size one: all of them, or those named."""
    if "dim" not in a.values:
        return tuple(axis for axis in a.self.axes if len(axis) != 1)
    dims = {d % len(a.self) for d in _list(a.values["dim"])}
    return tuple(axis for i, axis in enumerate(a.self.axes) if i not in dims or len(axis) != 1)


def expand(f: Facts, a: Arguments) -> Axes:
    """Axes of size one become free axes of copies; the rest stay."""
    shape, out = a.node.meta["val"].shape, []
    for back in range(len(shape), 0, -1):
        same = back <= len(a.self) and a.self.shape[-back] == hint(shape[-back])
        out.append(a.self[-back] if same else free(f, shape[-back]))
    return tuple(out)


def expand_as(f: Facts, a: Arguments) -> Axes:
    """Expanded axes are those of the other tensor, whose sizes are read when the program runs."""
    out = []
    for back in range(len(a.shape), 0, -1):
        if back <= len(a.self) and a.self.shape[-back] == a.shape[-back]:
            out.append(f.same(a.self[-back], a.other[-back]))
        else:
            out.append(a.other[-back])
    return tuple(out)


def repeat(f: Facts, a: Arguments) -> Axes:
    """Each axis becomes ``times x axis``; new leading axes are copies."""
    given = a.given.get("repeats") or a.given.get("dims") or []
    times = [t.meta["val"] if isinstance(t, fx.Node) else t for t in given]
    rank = max(len(times), len(a.self))
    times = [1] * (rank - len(times)) + times
    axes = [f.pinned(1)] * (rank - len(a.self)) + list(a.self.axes)
    out = []
    for i, (count, axis) in enumerate(zip(times, axes, strict=True)):
        copies = free(f, count)
        f.note(f"times{i}", copies)
        out.append(f.merge([copies, axis]))
    return tuple(out)


def repeat_interleave(f: Facts, a: Arguments) -> Axes:
    """Each position of one axis repeated in place: ``axis x times``."""
    if not isinstance(a.get("repeats"), int) or a.get("dim") is None:
        return lock(f, a)[0]
    dim = a.dim(a.self)
    copies = f.fresh(a.repeats)
    f.note("times", copies)
    axes = list(a.self.axes)
    axes[dim] = f.merge([axes[dim], copies])
    return tuple(axes)


def concatenate(f: Facts, a: Arguments) -> Axes:
    """Joins along one axis; the others are shared."""
    values: list[Value] = [v for _, v in a.operands() if v.shape != (0,)]
    return join(f, values, int(a.get("dim", 0)) % len(values[0]))


def join(f: Facts, values: list[Value], dim: int) -> Axes:
    """The axes of values joined along ``dim``."""
    out = []
    for i in range(len(values[0])):
        parts = [v[i] for v in values]
        out.append(f.join(parts) if i == dim else f.same(*parts))
    return tuple(out)


_JOINS = {"hstack": (1, 1), "vstack": (2, 0), "row_stack": (2, 0), "dstack": (3, 2), "column_stack": (2, 1)}
"""Least rank that is joined as it is, and the axis it is joined along."""


def joined(f: Facts, a: Arguments) -> Axes | list[Axes]:
    """``hstack`` and its kin; operands of lower rank are reshaped first, which is left alone."""
    rank, dim = _JOINS[op_name(a.node).removeprefix("aten::")]
    values: list[Value] = [v for _, v in a.operands()]
    if any(len(v) < rank for v in values):
        return lock(f, a)
    return join(f, values, min(dim, len(values[0]) - 1))


def stack(f: Facts, a: Arguments) -> Axes:
    """A new axis with one position for each operand, pinned."""
    values: list[Value] = [v for _, v in a.operands()]
    dim = int(a.get("dim", 0)) % (len(values[0]) + 1)
    shared = [f.same(*(v[i] for v in values)) for i in range(len(values[0]))]
    pieces = f.pinned(len(values), "it has one position for each of the tensors that are stacked")
    return (*shared[:dim], pieces, *shared[dim:])


def meshgrid(f: Facts, a: Arguments) -> list[Axes]:
    """Vectors spread over each other: every output has the axes of all of them."""
    axes = [v.axes[0] if len(v) else f.pinned(1) for _, v in a.operands()]
    if a.get("indexing") == "xy" and len(axes) > 1:
        axes[:2] = axes[1::-1]
    return [tuple(axes)] * len(axes)


def together(f: Facts, a: Arguments) -> list[Axes]:
    """``broadcast_tensors``: every output has the axes of all operands."""
    values = [v.axes for _, v in a.operands()]
    return [broadcast(f, values, a.shape)] * len(values)


def flip(f: Facts, a: Arguments) -> Axes:
    """Reverses axes."""
    dims = {d % len(a.self) for d in _list(a.get("dims", a.get("dim")))}
    return tuple(axis[::-1].copy() if i in dims else axis for i, axis in enumerate(a.self.axes))


def diagonal(f: Facts, a: Arguments) -> Axes:
    """The diagonal of two axes, as a last axis."""
    dims = {int(a.dim1) % len(a.self), int(a.dim2) % len(a.self)}
    for i in dims:
        f.pin(a.self[i], "the operator takes a diagonal of it")
    return (*(axis for i, axis in enumerate(a.self.axes) if i not in dims), f.pinned(a.shape[-1]))


def triangle(f: Facts, a: Arguments) -> Axes:
    """``[..., rows, columns]`` with one side of the diagonal set to zero."""
    for axis in a.self.axes[-2:]:
        f.pin(axis, "the operator compares its positions with another axis's")
    return a.self.axes


def roll(f: Facts, a: Arguments) -> Axes:
    """Rolled axes are pinned: a shift by positions means nothing after a cut."""
    dims = {d % len(a.self) for d in _list(a.dims)} if a.dims else set(range(len(a.self)))
    return tuple(
        f.pin(axis, "the operator shifts along it") if i in dims else axis
        for i, axis in enumerate(a.self.axes)
    )


def pixel_shuffle(f: Facts, a: Arguments) -> Axes:
    """``[B, C * r * r, H, W] -> [B, C, H * r, W * r]``."""
    r = int(a.upscale_factor)
    channel, block = f.split(a.self[-3], (len(a.self[-3]) // (r * r), r * r))
    f.pin(block, "it becomes part of the image's height and width")
    return (*a.self.axes[:-3], channel, *(f.pinned(n) for n in a.shape[-2:]))


def pixel_unshuffle(f: Facts, a: Arguments) -> Axes:
    """``[B, C, H * r, W * r] -> [B, C * r * r, H, W]``."""
    r = int(a.downscale_factor)
    return (*a.self.axes[:-3], f.merge([a.self[-3], f.pinned(r * r)]), *(f.pinned(n) for n in a.shape[-2:]))


def channel_shuffle(f: Facts, a: Arguments) -> Axes:
    """``[B, groups x inner] -> [B, inner x groups]``."""
    own, inner = f.split(a.self[1], (int(a.groups), len(a.self[1]) // int(a.groups)))
    f.note("groups", own)
    return (a.self[0], f.merge([inner, own]), *a.self.axes[2:])


def lock(f: Facts, a: Arguments) -> list[Axes]:
    """Pins everything: the rule of operators without one. Always sound."""
    assert f.node is not None
    for _, value in a.operands():
        for axis in value.axes:
            f.pin(axis, f"the operator {f.node.target} has no rule")
    return [tuple(f.pinned(n) for n in shape) for shape in a.outputs]


def _list(value: int | list[int]) -> list[int]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


TABLE = {
    **dict.fromkeys(
        (
            "aten::view", "aten::reshape", "aten::_unsafe_view", "aten::flatten", "aten::unflatten",
            "aten::reshape_as", "aten::view_as", "aten::ravel", "aten::atleast_1d", "aten::atleast_2d",
            "aten::atleast_3d",
        ),
        reshape,
    ),
    "aten::permute": permute,
    **dict.fromkeys(
        ("aten::transpose", "aten::transpose_", "aten::t", "aten::swapaxes", "aten::swapdims", "aten::mT",
         "aten::matrix_H", "aten::adjoint"),
        transpose,
    ),
    "aten::numpy_T": reverse,
    **dict.fromkeys(("aten::movedim", "aten::moveaxis"), movedim),
    **dict.fromkeys(("aten::unsqueeze", "aten::unsqueeze_"), unsqueeze),
    **dict.fromkeys(("aten::squeeze", "aten::squeeze_"), squeeze),
    **dict.fromkeys(("aten::expand", "aten::broadcast_to"), expand),
    "aten::expand_as": expand_as,
    **dict.fromkeys(("aten::repeat", "aten::tile"), repeat),
    "aten::repeat_interleave": repeat_interleave,
    **dict.fromkeys(("aten::cat", "aten::concat", "aten::concatenate"), concatenate),
    "aten::stack": stack,
    "aten::meshgrid": meshgrid,
    "aten::broadcast_tensors": together,
    **dict.fromkeys(tuple(f"aten::{name}" for name in _JOINS), joined),
    "aten::flip": flip,
    "aten::diagonal": diagonal,
    **dict.fromkeys(("aten::triu", "aten::tril", "aten::triu_", "aten::tril_"), triangle),
    "aten::roll": roll,
    "aten::pixel_shuffle": pixel_shuffle,
    "aten::pixel_unshuffle": pixel_unshuffle,
    **dict.fromkeys(("aten::channel_shuffle", "aten::native_channel_shuffle"), channel_shuffle),
}  # fmt: skip
