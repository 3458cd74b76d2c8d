"""Tensors made in the program: constant ones may be cut freely, those that hold positions may not."""

from __future__ import annotations

from secateur.coupling.facts import Axes, Facts
from secateur.coupling.values import Arguments
from secateur.graph import hint


def filled(f: Facts, a: Arguments) -> Axes:
    """One value everywhere: every axis is free, the batch excepted."""
    sizes = a.node.meta["val"].shape
    return tuple(f.fresh(n) if isinstance(n, int) else f.pinned(hint(n)) for n in sizes)


def ordered(f: Facts, a: Arguments) -> Axes:
    """Values that tell positions apart."""
    return tuple(f.pinned(n, "its values tell positions apart") for n in a.shape)


TABLE = {
    **dict.fromkeys(
        ("aten::zeros", "aten::ones", "aten::full", "aten::empty", "aten::new_zeros", "aten::new_ones",
         "aten::new_full", "aten::new_empty", "aten::rand", "aten::randn"),
        filled,
    ),
    **dict.fromkeys(("aten::arange", "aten::linspace", "aten::eye", "aten::scalar_tensor"), ordered),
}  # fmt: skip
