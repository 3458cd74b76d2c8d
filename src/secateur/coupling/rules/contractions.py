"""Operators that sum over an axis: the axis of one operand meets that of the other, and is masked there."""

from __future__ import annotations

from collections.abc import Sequence

from secateur.coupling.facts import Axes, Axis, Facts
from secateur.coupling.rules.pointwise import broadcast
from secateur.coupling.values import Arguments, Value

_SPATIAL = "it is a spatial axis that a window slides over"


def linear(f: Facts, a: Arguments) -> Axes:
    """``input [..., I]``, ``weight [O, I]``, ``bias [O]``."""
    f.contract("input", len(a.input) - 1, a.input[-1], a.weight[1])
    out = a.weight[0] if a.get("bias") is None else f.same(a.weight[0], a.bias[0])
    return (*a.input.axes[:-1], out)


def product(f: Facts, left: Value, right: Value, name: str) -> Axes:
    """Matrix product with broadcasting, as ``torch.matmul``; ``name`` is the argument masked."""
    f.contract(name, len(left) - 1, left[-1], right[-2] if len(right) > 1 else right[0])
    rows = left.axes[-2:-1]
    columns = right.axes[-1:] if len(right) > 1 else ()
    lead = max(len(left), len(right), 2) - 2
    shapes = [v.shape[:-2] for v in (left, right)]
    sizes = tuple(max((s[-back] for s in shapes if len(s) >= back), default=1) for back in range(lead, 0, -1))
    return (*broadcast(f, [left.axes[:-2], right.axes[:-2]], sizes), *rows, *columns)


def matmul(f: Facts, a: Arguments) -> Axes:
    """``self [..., N, K] @ mat2 [..., K, M]``, either operand possibly a vector."""
    return product(f, a.self, a.get("other", a.get("mat2")) or a.get("vec") or a.get("tensor"), "self")


def addmm(f: Facts, a: Arguments) -> Axes:
    """``self + mat1 @ mat2``, batched or not."""
    left, right, name = (
        (a.batch1, a.batch2, "batch1") if a.get("batch1") is not None else (a.mat1, a.mat2, "mat1")
    )
    return broadcast(f, [product(f, left, right, name), a.self.axes], a.shape)


def tensordot(f: Facts, a: Arguments) -> Axes:
    """Sums over pairs of axes; what is left of the first stands before what is left of the second."""
    ours = [d % len(a.self) for d in a.dims_self]
    theirs = [d % len(a.other) for d in a.dims_other]
    for i, j in zip(ours, theirs, strict=True):
        f.contract("self", i, a.self[i], a.other[j])
    left = [axis for i, axis in enumerate(a.self.axes) if i not in ours]
    return (*left, *(axis for j, axis in enumerate(a.other.axes) if j not in theirs))


def bilinear(f: Facts, a: Arguments) -> Axes:
    """``input1 [..., I]``, ``input2 [..., J]``, ``weight [O, I, J]``."""
    for name, value, axis in (("input1", a.input1, 1), ("input2", a.input2, 2)):
        f.contract(name, len(value) - 1, value[-1], a.weight[axis])
    out = a.weight[0] if a.get("bias") is None else f.same(a.weight[0], a.bias[0])
    return (*broadcast(f, [a.input1.axes[:-1], a.input2.axes[:-1]], a.shape[:-1]), out)


def convolution(f: Facts, a: Arguments) -> Axes:
    """``input [B, C, *space]``, ``weight [O, C / groups, *kernel]``.

    In groups the channels are ``groups x (C / groups)`` and the filters ``groups x (O / groups)``.
    """
    channel = len(a.input) - len(a.weight) + 1
    groups = int(a.groups)
    x, w = a.input[channel], a.weight[0]
    if groups == 1:
        f.contract("input", channel, x, a.weight[1])
    else:
        of_x, inner = f.split(x, (groups, len(x) // groups))
        of_w, _ = f.split(w, (groups, len(w) // groups))
        f.note("groups", f.same(of_x, of_w))
        f.contract("input", channel, x)
        f.same(inner, a.weight[1])
        f.consumed.append(a.weight[1])
    out = w if a.get("bias") is None else f.same(w, a.bias[0])
    return (*a.input.axes[:channel], out, *_space(f, a, channel))


def transposed(f: Facts, a: Arguments) -> Axes:
    """``input [B, C, *space]``, ``weight [C, O / groups, *kernel]``."""
    channel = len(a.input) - len(a.weight) + 1
    groups = int(a.groups)
    x, w = a.input[channel], a.weight[0]
    if groups == 1:
        f.contract("input", channel, x, w)
        out = a.weight[1]
    else:
        of_x, inner_x = f.split(x, (groups, len(x) // groups))
        of_w, inner_w = f.split(w, (groups, len(w) // groups))
        of_x = f.same(of_x, of_w)
        f.same(inner_x, inner_w)
        f.note("groups", of_x)
        f.contract("input", channel, x)
        out = f.merge([of_x, a.weight[1]])
    if a.get("bias") is not None:
        out = f.same(out, a.bias[0])
    return (*a.input.axes[:channel], out, *_space(f, a, channel))


def any_convolution(f: Facts, a: Arguments) -> Axes:
    """``aten::convolution``, which says by a flag whether it is transposed."""
    return transposed(f, a) if a.transposed else convolution(f, a)


def _space(f: Facts, a: Arguments, channel: int) -> Axes:
    """Spatial axes after a convolution: those of a 1x1 convolution without stride or padding are kept.

    So is an axis over which one filter slides and keeps its length, as a gate's over neighbouring channels does: it
    averages what is next to each other, and of a cut axis that is what was kept.
    """
    out = []
    for i in range(channel + 1, len(a.input)):
        kernel = a.weight.shape[i - channel + 1]
        stride = a.stride[i - channel - 1] if len(a.stride) > 1 else (a.stride or [1])[0]
        f.pin(a.weight[i - channel + 1], "it is an axis of the kernel")
        if kernel == stride == 1 and a.input.shape[i] == a.shape[i]:
            out.append(a.input[i])
        elif stride == 1 and a.weight.shape[:2] == (1, 1) and a.input.shape[i] == a.shape[i]:
            f.reduce("input", i, a.input[i], ordered=True)
            out.append(a.input[i])
        else:
            f.pin(a.input[i], _SPATIAL)
            out.append(f.pinned(a.shape[i]))
    return tuple(out)


def einsum(f: Facts, a: Arguments) -> Axes:
    """Any contraction in Einstein's notation; letters that are summed are masked in the first operand."""
    operands: list[Value] = list(a.tensors)
    terms, result = parse_einsum(a.equation, [len(v) for v in operands])
    axes: dict[str, Axis] = {}
    for term, value in zip(terms, operands, strict=True):
        for letter, axis in zip(term, value.axes, strict=True):
            if term.count(letter) > 1:
                axis = f.pin(axis, "einsum takes a diagonal of it")
            if letter not in axes or len(axes[letter]) == 1:
                axes[letter] = axis
            elif len(axis) > 1:
                axes[letter] = f.same(axes[letter], axis)
    for letter in dict.fromkeys("".join(terms)):
        if letter not in result:
            index = next(i for i, t in enumerate(terms) if letter in t)
            f.contract(f"tensors.{index}", terms[index].index(letter), axes[letter])
    return tuple(axes[letter] for letter in result)


def parse_einsum(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Letters of each operand and of the result; an ellipsis becomes capital-free private letters."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    hidden = "".join(chr(0x100 + i) for i in range(max(ranks)))
    widest = 0
    for i, (term, rank) in enumerate(zip(terms, ranks, strict=True)):
        if "..." in term:
            count = rank - len(term.replace("...", ""))
            widest = max(widest, count)
            terms[i] = term.replace("...", hidden[len(hidden) - count :])
    shared = hidden[len(hidden) - widest :] if widest else ""
    if not arrow:
        letters = "".join(terms)
        free = sorted(c for c in set(letters) if letters.count(c) == 1 and c not in shared)
        return terms, shared + "".join(free)
    return terms, right.replace("...", shared)


def attention(f: Facts, a: Arguments) -> Axes:
    """Scaled dot product: ``query [..., H, L, E]``, ``key [..., H, S, E]``, ``value [..., H, S, V]``.

    With ``enable_gqa`` the query's heads are the key's heads, each repeated. With ``is_causal`` the mask compares
    positions of queries with those of keys: they stay as they are, or go together.
    """
    q, k, v = a.query, a.key, a.value
    f.contract("query", len(q) - 1, q[-1], k[-1])
    keys = f.same(k[-2], v[-2])
    if a.get("is_causal"):
        if len(q[-2]) == len(keys):
            keys = f.same(q[-2], keys)
        else:
            for positions in (q[-2], keys):
                f.pin(positions, "causal attention compares its positions with those of another axis")
    lead_q, lead_k, lead_v = (list(x.axes[:-2]) for x in (q, k, v))
    if a.get("enable_gqa") and lead_q and len(q[-3]) != len(k[-3]):
        heads = f.same(k[-3], v[-3])
        own, _ = f.split(q[-3], (len(heads), len(q[-3]) // len(heads)))
        f.same(own, heads)
        lead_k[-1] = lead_v[-1] = q[-3]
    lead = broadcast(f, [tuple(lead_q), tuple(lead_k), tuple(lead_v)], a.shape[:-2])
    if a.get("attn_mask") is not None:
        broadcast(f, [a.attn_mask.axes, (*lead, q[-2], keys)], (*a.shape[:-1], len(keys)))
    f.reduce("key", len(k) - 2, keys)
    f.reduce("value", len(v) - 2, keys)
    return (*lead, q[-2], v[-1])


TABLE = {
    "aten::linear": linear,
    **dict.fromkeys(("aten::matmul", "aten::mm", "aten::bmm", "aten::mv", "aten::dot", "aten::__matmul__",
         "aten::linalg_matmul"), matmul),
    **dict.fromkeys(("aten::addmm", "aten::baddbmm"), addmm),
    **dict.fromkeys(("aten::conv1d", "aten::conv2d", "aten::conv3d"), convolution),
    **dict.fromkeys(("aten::conv_transpose1d", "aten::conv_transpose2d", "aten::conv_transpose3d"), transposed),
    "aten::convolution": any_convolution,
    "aten::einsum": einsum,
    "aten::tensordot": tensordot,
    "aten::bilinear": bilinear,
    "aten::scaled_dot_product_attention": attention,
}  # fmt: skip
