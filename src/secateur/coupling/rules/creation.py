"""Tensors made in the program: constant ones are made smaller, of those that hold positions some are selected."""

from __future__ import annotations

from torch import SymInt

from secateur.coupling.facts import Axes, Axis, Facts
from secateur.coupling.values import Arguments
from secateur.graph import hint


def free(f: Facts, size: int | SymInt) -> Axis:
    """An axis of the program's own making: free, but for the batch; a multiple of that is pinned where they meet."""
    batch = isinstance(size, SymInt) and size.node.expr.is_Symbol
    return f.pinned(hint(size)) if batch else f.fresh(hint(size))


def filled(f: Facts, a: Arguments) -> Axes:
    """One value everywhere: every axis is free, the batch excepted."""
    return tuple(free(f, n) for n in a.node.meta["val"].shape)


def ordered(f: Facts, a: Arguments) -> Axes:
    """Values that tell positions apart: made as they are, and what is kept is selected from them."""
    axes = filled(f, a)
    for i, axis in enumerate(axes):
        f.note(f"selected{i}", axis)
    return axes


def indices(f: Facts, a: Arguments) -> Axes:
    """Positions for looking things up."""
    return tuple(f.pinned(n, "its values tell positions apart") for n in a.shape)


TABLE = {
    **dict.fromkeys(
        ("aten::zeros", "aten::ones", "aten::full", "aten::empty", "aten::new_zeros", "aten::new_ones",
         "aten::new_full", "aten::new_empty", "aten::rand", "aten::randn"),
        filled,
    ),
    **dict.fromkeys(
        ("aten::arange", "aten::linspace", "aten::logspace", "aten::eye", "aten::hann_window",
         "aten::hamming_window"),
        ordered,
    ),
    **dict.fromkeys(("aten::scalar_tensor", "aten::tril_indices", "aten::triu_indices"), indices),
}  # fmt: skip
