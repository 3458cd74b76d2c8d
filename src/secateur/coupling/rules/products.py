"""Further products of tensors, and distances, by their schemas; the common ones are contractions."""

from __future__ import annotations

import itertools

from secateur.coupling.facts import Axes, Facts
from secateur.coupling.rules.contractions import product
from secateur.coupling.rules.pointwise import broadcast
from secateur.coupling.values import Arguments, Value


def tensordot(f: Facts, a: Arguments) -> Axes:
    """Sums over ``dims_self`` of the first and ``dims_other`` of the second operand, pair by pair."""
    ours, theirs = (
        [d % len(v) for d in dims] for v, dims in ((a.self, a.dims_self), (a.other, a.dims_other))
    )
    for i, j in zip(ours, theirs, strict=True):
        f.contract("self", i, a.self[i], a.other[j])
    return (
        *(axis for i, axis in enumerate(a.self.axes) if i not in ours),
        *(axis for j, axis in enumerate(a.other.axes) if j not in theirs),
    )


def inner(f: Facts, a: Arguments) -> Axes:
    """``self [..., K]`` with ``other [..., K]``."""
    f.contract("self", len(a.self) - 1, a.self[-1], a.other[-1])
    return (*a.self.axes[:-1], *a.other.axes[:-1])


def vecdot(f: Facts, a: Arguments) -> Axes:
    """``x`` and ``y`` of one shape, summed over ``dim``; ``vdot`` is that of two vectors."""
    left, right = (a.get("x"), a.get("y")) if a.get("x") is not None else (a.self, a.other)
    dim = int(a.get("dim", -1)) % len(left)
    out = broadcast(f, [left.axes, right.axes], left.shape)
    f.contract("x" if a.get("x") is not None else "self", dim, out[dim])
    return (*out[:dim], *out[dim + 1 :])


def outer(f: Facts, a: Arguments) -> Axes:
    """Every entry of one vector with every entry of the other; ``addr`` adds it to a matrix."""
    first = a.get("vec1") if a.get("vec1") is not None else a.self
    out = (first[0], a.vec2[0])
    return out if first is a.self else broadcast(f, [out, a.self.axes], a.shape)


def chain(f: Facts, a: Arguments) -> Axes:
    """A product of matrices one after another; its ends may be vectors."""
    operands: list[Value] = [v for _, v in a.operands()]
    name = next(name for name, _ in a.operands())
    for i, (left, right) in enumerate(itertools.pairwise(operands)):
        f.contract(f"{name}.{i}", len(left) - 1, left[-1], right[0])
    return (*operands[0].axes[:-1], *operands[-1].axes[1:])


def addmv(f: Facts, a: Arguments) -> Axes:
    """``self + mat @ vec``."""
    return broadcast(f, [product(f, a.mat, a.vec, "mat"), a.self.axes], a.shape)


def addbmm(f: Facts, a: Arguments) -> Axes:
    """``self`` and a product of matrices summed over the batch."""
    f.contract("batch1", 0, a.batch1[0], a.batch2[0])
    f.contract("batch1", 2, a.batch1[2], a.batch2[1])
    return broadcast(f, [(a.batch1[1], a.batch2[2]), a.self.axes], a.shape)


def kronecker(f: Facts, a: Arguments) -> Axes:
    """Each axis is the product of the operands' axes."""
    rank = max(len(a.self), len(a.other))
    ours, theirs = ([f.pinned(1)] * (rank - len(v)) + list(v.axes) for v in (a.self, a.other))
    return tuple(f.merge(pair) for pair in zip(ours, theirs, strict=True))


def bilinear(f: Facts, a: Arguments) -> Axes:
    """``input1 [..., I]``, ``input2 [..., J]``, ``weight [O, I, J]``, ``bias [O]``."""
    f.contract("input1", len(a.input1) - 1, a.input1[-1], a.weight[1])
    f.contract("input2", len(a.input2) - 1, a.input2[-1], a.weight[2])
    out = a.weight[0] if a.get("bias") is None else f.same(a.weight[0], a.bias[0])
    return (*broadcast(f, [a.input1.axes[:-1], a.input2.axes[:-1]], a.shape[:-1]), out)


def distance(f: Facts, a: Arguments) -> Axes:
    """Cosine or norm of a difference along one axis; what is removed from it changes the value."""
    dim = int(a.get("dim", -1)) % len(a.x1)
    shape = tuple(max(pair) for pair in zip(a.x1.shape, a.x2.shape, strict=True))
    both = broadcast(f, [a.x1.axes, a.x2.axes], shape)
    for name in ("x1", "x2"):
        f.reduce(name, dim, both[dim])
    middle = (f.pinned(1),) if a.get("keepdim") else ()
    return (*both[:dim], *middle, *both[dim + 1 :])


def distances(f: Facts, a: Arguments) -> Axes:
    """``x1 [..., P, M]`` to ``x2 [..., R, M]``: all pairs of rows."""
    features = f.same(a.x1[-1], a.x2[-1])
    for name in ("x1", "x2"):
        f.reduce(name, len(a.values[name]) - 1, features)
    return (*broadcast(f, [a.x1.axes[:-2], a.x2.axes[:-2]], a.shape[:-2]), a.x1[-2], a.x2[-2])


TABLE = {
    "aten::tensordot": tensordot,
    "aten::inner": inner,
    **dict.fromkeys(("aten::vdot", "aten::linalg_vecdot"), vecdot),
    **dict.fromkeys(("aten::outer", "aten::ger", "aten::addr"), outer),
    **dict.fromkeys(("aten::linalg_multi_dot", "aten::chain_matmul"), chain),
    "aten::addmv": addmv,
    "aten::addbmm": addbmm,
    "aten::kron": kronecker,
    "aten::bilinear": bilinear,
    **dict.fromkeys(("aten::cosine_similarity", "aten::pairwise_distance"), distance),
    **dict.fromkeys(("aten::cdist", "aten::_cdist_forward"), distances),
}
