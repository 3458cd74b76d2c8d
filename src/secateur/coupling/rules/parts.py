"""Operators that take a part of an axis: slices, splits, selections, look-ups, padding."""

from __future__ import annotations

import numpy as np
import torch

from secateur.coupling.facts import Axes, Axis, Facts
from secateur.coupling.values import Arguments, Value, literal_indices


def replaced(value: Value, dim: int, axis: Axis) -> Axes:
    """The axes of ``value`` with one of them replaced."""
    return (*value.axes[:dim], axis, *value.axes[dim + 1 :])


def slicing(f: Facts, a: Arguments) -> Axes:
    """``start:end:step`` along one axis. A strided slice is a split with its phase pinned."""
    dim, axis = a.dim(a.self), a.self[a.dim(a.self)]
    start, stop, step = slice(a.start, a.end, int(a.step)).indices(len(axis))
    if step == 1:
        return replaced(a.self, dim, f.part(axis, start, max(start, stop)))
    if f.is_pinned(axis):
        return replaced(a.self, dim, f.like(axis, len(range(start, stop, step))))
    if len(axis) % step or start >= step or len(range(start, stop, step)) != len(axis) // step:
        return replaced(a.self, dim, f.pin(axis, "a strided slice takes part of it")[start:stop:step])
    outer, phase = f.split(axis, (len(axis) // step, step))
    f.pin(phase, "a strided slice picks one phase of it")
    return replaced(a.self, dim, outer)


def narrow(f: Facts, a: Arguments) -> Axes:
    """``length`` positions from ``start``."""
    dim = a.dim(a.self)
    return replaced(a.self, dim, f.part(a.self[dim], int(a.start), int(a.start) + int(a.length)))


def select(f: Facts, a: Arguments) -> Axes:
    """One position of an axis, which thereby is pinned; the axis is dropped."""
    dim = a.dim(a.self)
    index = int(a.index) % len(a.self[dim])
    f.pin(a.self[dim][index : index + 1], "the program selects this position by its index")
    return (*a.self.axes[:dim], *a.self.axes[dim + 1 :])


def split(f: Facts, a: Arguments) -> list[Axes]:
    """Consecutive parts of an axis, with the sizes of the outputs."""
    dim, out, start = a.dim(a.self), [], 0
    for shape in a.outputs:
        out.append(replaced(a.self, dim, f.part(a.self[dim], start, start + shape[dim])))
        start += shape[dim]
    return out


def unbind(f: Facts, a: Arguments) -> list[Axes]:
    """Every position of an axis on its own: all are pinned."""
    dim = a.dim(a.self)
    f.pin(a.self[dim], "the program takes it apart position by position")
    rest = (*a.self.axes[:dim], *a.self.axes[dim + 1 :])
    return [rest] * len(a.outputs)


def embedding(f: Facts, a: Arguments) -> Axes:
    """Rows of ``weight [V, E]`` looked up: the vocabulary is pinned."""
    f.pin(a.weight[0], "its positions are looked up by index")
    return (*a.indices.axes, a.weight[1])


def index(f: Facts, a: Arguments) -> Axes:
    """Advanced indexing: indexed axes are pinned and replaced by the indices' axes; the others stay."""
    if (taken := listed(f, a)) is not None:
        return taken
    before, rank, after = looked_up(f, a)
    inner = a.shape[len(before) : len(before) + rank]
    return (*before, *(f.pinned(n) for n in inner), *after)


def looked_up(f: Facts, a: Arguments) -> tuple[Axes, int, Axes]:
    """What ``self[indices]`` is made of: axes left in front, how many axes the indices give, axes left behind.

    A mask takes as many axes as it has, and gives one. What is looked up stands where the indexed axes were, or in
    front of all if these were not neighbours.
    """
    taken, dim, rank = list[int](), 0, 0
    for value, node in zip(a.indices, a.given["indices"], strict=True):
        if value is None:
            dim += 1
            continue
        mask = node.meta["val"].dtype in (torch.bool, torch.uint8)
        width = len(value) if mask else 1
        rank = max(rank, 1 if mask else len(value))
        taken += range(dim, dim + width)
        dim += width
        for axis in value.axes:
            f.pin(axis, "it holds indices")
    for i in taken:
        f.pin(a.self[i], "its positions are looked up by index")
    neighbours = taken == list(range(taken[0], taken[-1] + 1))
    first = taken[0] if neighbours else 0
    left = tuple(axis for i, axis in enumerate(a.self.axes) if i not in taken)
    return left[:first], rank, left[first:]


def listed(f: Facts, a: Arguments) -> Axes | None:
    """Positions of one axis by a list that stands in the code: they are told apart, and the list is written anew."""
    source = a.index if "index" in a.values else next(v for v in a.indices if v is not None)
    dim = a.dim(a.self) if "index" in a.values else a.indices.index(source)
    found = literal_indices(a.node, len(a.self[dim]))
    if found is None:
        return None
    for axis in source.axes:
        f.pin(axis, "it holds indices")
    axis = a.self[dim]
    f.note("looked_up", axis)
    taken = axis[found[1]]
    if len(taken) == 1 and not f.is_pinned(taken):
        taken = f.pin(taken, "the program takes this one position of the axis by itself")
    return replaced(a.self, dim, f.pinned(len(taken)) if f.is_pinned(taken) else taken)


def index_select(f: Facts, a: Arguments) -> Axes:
    """Positions of one axis by a vector of indices."""
    if (taken := listed(f, a)) is not None:
        return taken
    dim = a.dim(a.self)
    f.pin(a.self[dim], "its positions are looked up by index")
    for axis in a.index.axes:
        f.pin(axis, "it holds indices")
    return replaced(a.self, dim, f.pinned(a.shape[dim]))


def bag(f: Facts, a: Arguments) -> list[Axes]:
    """Sums, means or maxima of rows of ``weight [V, E]``; further outputs count rows."""
    f.pin(a.weight[0], "its positions are looked up by index")
    for name in ("indices", "offsets", "per_sample_weights"):
        for axis in a.get(name).axes if a.get(name) is not None else ():
            f.pin(axis, "it holds indices")
    first, *others = a.outputs
    maxima = (a.weight[1],) if a.get("mode") == 2 else ()
    return [
        (f.pinned(first[0]), a.weight[1]),
        *((*(f.pinned(n) for n in shape[: len(shape) - len(maxima)]), *maxima) if len(shape) == 2 else
          tuple(f.pinned(n) for n in shape) for shape in others),
    ]  # fmt: skip


def gather(f: Facts, a: Arguments, index: Value | None = None) -> Axes:
    """Look-up along one axis; the other axes meet those of the index where their sizes agree."""
    dim, out = a.dim(a.self), []
    for i, (axis, other) in enumerate(zip(a.self.axes, (index or a.index).axes, strict=True)):
        if i == dim or len(axis) != len(other):
            f.pin(axis, "its positions are looked up by index")
            f.pin(other, "it holds indices")
            out.append(f.pinned(len(other)))
        else:
            out.append(f.same(axis, other))
    return tuple(out)


def top(f: Facts, a: Arguments) -> list[Axes]:
    """Sorts and top-k: one axis is pinned, values and indices come out."""
    dim = a.dim(a.self)
    f.pin(a.self[dim], "the operator orders along it")
    return [replaced(a.self, dim, f.pinned(shape[dim])) for shape in a.outputs]


def pad(f: Facts, a: Arguments) -> Axes:
    """Padding with a constant gives an axis free ends; other modes pin it."""
    constant = a.get("mode", "constant") == "constant"
    axes = list(a.self.axes)
    pairs = list(zip(a.pad[::2], a.pad[1::2], strict=True))
    for back, (left, right) in enumerate(pairs, start=1):
        dim = len(axes) - back
        if (left, right) == (0, 0):
            continue
        if f.is_pinned(axes[dim]) or not constant or left < 0 or right < 0 or dim == 0:
            f.pin(axes[dim], "it is padded from its own values")
            axes[dim] = f.pinned(a.shape[dim])
            continue
        before, after = f.fresh(left), f.fresh(right)
        f.note(f"before{dim}", before)
        f.note(f"after{dim}", after)
        axes[dim] = np.concatenate([before, axes[dim], after])
    return tuple(axes)


TABLE = {
    "aten::slice": slicing,
    "aten::narrow": narrow,
    "aten::select": select,
    **dict.fromkeys(
        ("aten::split", "aten::split_with_sizes", "aten::chunk", "aten::tensor_split", "aten::unsafe_chunk",
         "aten::unsafe_split"),
        split,
    ),
    "aten::unbind": unbind,
    "aten::embedding": embedding,
    "aten::embedding_bag": bag,
    "aten::index": index,
    "aten::index_select": index_select,
    "aten::gather": gather,
    **dict.fromkeys(("aten::topk", "aten::sort", "aten::argsort", "aten::cummax", "aten::cummin"), top),
    **dict.fromkeys(("aten::pad", "aten::constant_pad_nd"), pad),
}  # fmt: skip
