"""How two values of a lockstep are compared, and for which operators a small difference is none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from secateur.graph import op_name

HUGE = 1e30


def relative_error(found: Tensor, reference: Tensor) -> float:
    """Largest ``|found - reference|`` over largest ``|reference|``; infinite where shapes differ.

    Numbers near the largest of their kind stand for infinity, in masks: where both have them they are no scale.
    """
    if found.shape != reference.shape:
        return float("inf")
    if not reference.numel():
        return 0.0
    if not (reference.is_floating_point() or reference.is_complex()):
        return 0.0 if torch.equal(found, reference) else float("inf")
    scale, difference = float(reference.abs().max()), float((found - reference).abs().max())
    if scale < HUGE and math.isfinite(difference):
        return difference / max(scale, torch.finfo(reference.dtype).tiny)
    # NaN and infinity are right where the reference has them.
    same = (found == reference) | (torch.isnan(found) & torch.isnan(reference))
    if bool(same.all()):
        return 0.0
    finite = torch.isfinite(reference) & ~(same & (reference.abs() >= HUGE))
    scale = float(reference[finite].abs().max()) if bool(finite.any()) else 0.0
    remaining = (found - reference).abs().masked_fill(same, 0.0)
    return float(remaining.max()) / max(scale, torch.finfo(reference.dtype).tiny)


def decides(node: fx.Node, value: Any) -> bool:
    """Whether a call that gave ``value`` gives whole numbers or truth values, for which no difference is small."""
    found = [t for t in pytree.tree_leaves(value) if isinstance(t, Tensor)]
    whole = any(not (t.is_floating_point() or t.is_complex()) for t in found)
    return whole or op_name(node) in _STEPS


def rounding(node: fx.Node, cut: Any, reference: Tensor, read: Sequence[Any]) -> bool:
    """Whether a sum of values ``read`` differs by no more than rounding at their scale.

    The mean of what is centred is zero but for rounding, and has no scale of its own.
    """
    if op_name(node) not in _SUMS or reference.dtype not in (torch.float32, torch.float64):
        return False
    summed = [t for t in read if isinstance(t, Tensor) and t.is_floating_point() and t.numel()]
    scale = max((float(t.abs().max()) for t in summed), default=0.0)
    if cut.shape != reference.shape:
        return False
    return float((cut - reference).abs().max()) <= 16 * torch.finfo(reference.dtype).eps * scale


def has_nan(values: Any) -> bool:
    """Whether any tensor holds NaN."""
    return any(
        bool(torch.isnan(t).any())
        for t in pytree.tree_leaves(values)
        if isinstance(t, Tensor) and t.is_floating_point()
    )


def is_random(node: fx.Node) -> bool:
    """Whether a call's values are random, or those of memory that nobody wrote."""
    return op_name(node) in _RANDOM


_SUMS = frozenset(f"aten::{n}" for n in ("mean", "sum", "add", "add_", "sub", "sub_", "rsub"))

_STEPS = frozenset(
    f"aten::{n}" for n in ("sign", "round", "floor", "ceil", "trunc", "floor_divide", "heaviside")
)

_RANDOM = frozenset(f"aten::{n}" for n in ("rand", "randn", "rand_like", "randn_like", "bernoulli", "bernoulli_",
                                           "empty", "empty_like", "new_empty"))  # fmt: skip
