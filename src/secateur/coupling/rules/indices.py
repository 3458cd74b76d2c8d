"""Operators that find positions by their values, and those that write at positions given as indices."""

from __future__ import annotations

from collections.abc import Sequence

from torch import fx

from secateur.coupling.facts import Axes, Axis, Facts
from secateur.coupling.rules.parts import gather, looked_up
from secateur.coupling.rules.pointwise import pointwise
from secateur.coupling.values import Arguments, Value, op_name

_FOUND = "the operator picks positions by their values"
_WRITTEN = "its positions are written by index"
_INDICES = "it holds indices"


def positions(f: Facts, a: Arguments) -> list[Axes]:
    """What is found, and how much of it, depends on every value."""
    for _, value in a.operands():
        for axis in value.axes:
            f.pin(axis, _FOUND)
    return [tuple(f.pinned(n) for n in shape) for shape in a.outputs]


def where(f: Facts, a: Arguments) -> Axes | list[Axes]:
    """A choice position by position; of a condition alone, where it holds."""
    return pointwise(f, a) if "self" in a.values else positions(f, a)


def index_put(f: Facts, a: Arguments) -> Axes:
    """``self[indices] = values``, or ``+=``."""
    before, rank, after = looked_up(f, a)
    _meet(f, a.get("values"), (*before, *[None] * rank, *after))
    return a.self.axes


def _meet(f: Facts, value: Value, targets: Sequence[Axis | None]) -> None:
    """Ties a written value, aligned at its end, to the axes it is written over; it is fixed along indices."""
    for back in range(1, min(len(value), len(targets)) + 1):
        target = targets[-back]
        if len(value[-back]) == 1:
            continue
        if target is None:
            f.pin(value[-back], _WRITTEN)
        else:
            f.same(target, value[-back])


def index_write(f: Facts, a: Arguments) -> Axes:
    """``index_add``, ``index_copy``, ``index_fill``: slices of one axis, at a vector of indices."""
    dim, source = a.dim(a.self), a.get("source")
    f.pin(a.self[dim], _WRITTEN)
    for axis in a.index.axes:
        f.pin(axis, _INDICES)
    if source is not None:
        for i, axis in enumerate(source.axes):
            f.pin(axis, _WRITTEN) if i == dim else f.same(a.self[i], axis)
    return a.self.axes


def scatter(f: Facts, a: Arguments) -> Axes:
    """The reverse of ``gather``: axes but the one meet those of index and source where their sizes agree."""
    dim, source = a.dim(a.self), a.get("src")
    for i, axis in enumerate(a.self.axes):
        others = [a.index[i]] if source is None else [a.index[i], source[i]]
        if i != dim and all(len(other) == len(axis) for other in others):
            f.same(axis, *others)
            continue
        for other in (axis, *others):
            f.pin(other, _WRITTEN if other is axis else _INDICES)
    return a.self.axes


def take_along(f: Facts, a: Arguments) -> Axes | list[Axes]:
    """``gather`` with broadcasting; without an axis, a look-up in all of it."""
    same = a.get("dim") is not None and len(a.self) == len(a.indices)
    return gather(f, a, a.indices) if same and 1 not in a.indices.shape else positions(f, a)


def masked_scatter(f: Facts, a: Arguments) -> Axes:
    """Where ``mask`` holds, the values of ``source`` one after another instead of those of ``self``.

    A mask that is the same along the last axis puts whole rows of the source in, if these are as long: so the features
    of an image take the place of words.
    """
    value, mask, source = a.self, a.mask, a.source
    rows = len(source) > 0 and len(source[-1]) == a.shape[-1] and _same_along_the_last(a.given["mask"])
    if not rows or value.shape != a.shape:
        for axis in (*value.axes, *mask.axes, *source.axes):
            f.pin(axis, _FOUND)
        return tuple(f.pinned(n) for n in a.shape)
    for axis in (*mask.axes[:-1], *source.axes[:-1]):
        f.pin(axis, _FOUND)
    lead = [f.pin(axis, _WRITTEN) for axis in value.axes[:-1]]
    return (*lead, f.same(value[-1], source[-1], *(x for x in mask.axes[-1:] if len(x) > 1)))


def _same_along_the_last(node: fx.Node) -> bool:
    """Whether a tensor is one of size one along its last axis, only copied and expanded."""
    while node.meta["val"].shape[-1] != 1:
        if (
            node.op != "call_function"
            or op_name(node) not in _EXPANDING
            or not isinstance(node.args[0], fx.Node)
        ):
            return False
        node = node.args[0]
    return True


_EXPANDING = frozenset(
    f"aten::{n}" for n in ("expand", "expand_as", "to", "clone", "contiguous", "detach", "alias")
)


def categories(f: Facts, a: Arguments) -> Axes:
    """Class indices as vectors with a one."""
    return (*a.self.axes, f.pinned(a.shape[-1]))


def sought(f: Facts, a: Arguments) -> Axes | list[Axes]:
    """Every value looked for by itself, in a sorted vector or a set."""
    value, where = next(
        (a.get(v), a.get(w))
        for v, w in (("elements", "test_elements"), ("self", "boundaries"), ("self", "sorted_sequence"))
        if w in a.values
    )
    if not isinstance(value, Value) or not isinstance(where, Value) or len(where) != 1:
        return positions(f, a)
    f.pin(where[0], "values are looked for in it")
    return value.axes


TABLE = {
    "aten::where": where,
    **dict.fromkeys(
        ("aten::nonzero", "aten::nonzero_numpy", "aten::masked_select", "aten::unique_consecutive",
         "aten::unique_dim", "aten::_unique2", "aten::bincount", "aten::histc"),
        positions,
    ),
    "aten::take": positions,
    "aten::take_along_dim": take_along,
    **dict.fromkeys(("aten::masked_scatter", "aten::masked_scatter_"), masked_scatter),
    "aten::one_hot": categories,
    **dict.fromkeys(("aten::isin", "aten::bucketize", "aten::searchsorted"), sought),
    **dict.fromkeys(("aten::index_put", "aten::index_put_", "aten::_unsafe_index_put"), index_put),
    **dict.fromkeys(
        ("aten::index_add", "aten::index_add_", "aten::index_copy", "aten::index_copy_", "aten::index_fill",
         "aten::index_fill_"),
        index_write,
    ),
    **dict.fromkeys(
        ("aten::scatter", "aten::scatter_", "aten::scatter_add", "aten::scatter_add_", "aten::scatter_reduce",
         "aten::scatter_reduce_"),
        scatter,
    ),
}  # fmt: skip
