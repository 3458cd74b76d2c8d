"""Pooling, resampling and window operators: batch and channels stay, space is pinned."""

from __future__ import annotations

from secateur.coupling.facts import Axes, Axis, Facts
from secateur.coupling.values import Arguments, Value, op_name

_WINDOW = "a window slides over it"


def _space(f: Facts, value: Value, first: int) -> None:
    for axis in value.axes[first:]:
        f.pin(axis, _WINDOW)


def _pool(f: Facts, a: Arguments, rank: int) -> list[Axes]:
    value: Value = next(v for _, v in a.operands())
    first = len(value) - rank
    if (
        len(a.outputs) > 1 or a.get("kernel_size") is None
    ):  # places come out as well, or sizes alone are given
        _space(f, value, first)
        return [(*value.axes[:first], *(f.pinned(n) for n in shape[first:])) for shape in a.outputs]
    space = [
        value[first + i] if _untouched(a, i) else _slid(f, a, value, first + i, first) for i in range(rank)
    ]
    return [(*value.axes[:first], *space)]


def _slid(f: Facts, a: Arguments, value: Value, dim: int, first: int) -> Axis:
    """The axis that a window leaves of one it slides over.

    A mean over neighbours along one axis alone, which keeps its length or takes the padding before it away, is
    evaluated on the kept positions, as a norm is: neighbouring channels normalise each other so.
    """
    axis, length, kernel = value[dim], a.shape[dim], _each(a.get("kernel_size"), dim - first)
    ends = len(axis) - length
    alone = len(value) - first > 1 and all(
        _untouched(a, i - first) for i in range(first, len(value)) if i != dim
    )
    steps = _each(a.get("stride") or a.get("kernel_size"), dim - first) == 1
    means = op_name(a.node).startswith("aten::avg_pool")
    if not (means and alone and steps and ends in (0, kernel - 1)):
        return _pinned(f, axis, length)
    before = ends - ends // 2
    for end in (f.part(axis, 0, before), f.part(axis, before + length, len(axis))) if ends else ():
        f.pin(end, _WINDOW)
    f.reduce(next(name for name, _ in a.operands()), dim, axis, ordered=True)
    return f.part(axis, before, before + length)


def _untouched(a: Arguments, i: int) -> bool:
    """Whether the window is one position wide along spatial axis i, and moves by one: pooling over the others."""
    kernel, padding = (_each(a.get(name), i) for name in ("kernel_size", "padding"))
    stride = _each(a.get("stride"), i) if a.get("stride") else kernel
    return (kernel, stride, padding) == (1, 1, 0)


def _each(given: int | list[int], i: int) -> int:
    return given if isinstance(given, int) else given[i if len(given) > 1 else 0]


def _pinned(f: Facts, axis: Axis, length: int) -> Axis:
    f.pin(axis, _WINDOW)
    return f.pinned(length)


def pool1d(f: Facts, a: Arguments) -> list[Axes]:
    """``[..., C, L]``."""
    return _pool(f, a, 1)


def pool2d(f: Facts, a: Arguments) -> list[Axes]:
    """``[..., C, H, W]``."""
    return _pool(f, a, 2)


def pool3d(f: Facts, a: Arguments) -> list[Axes]:
    """``[..., C, D, H, W]``."""
    return _pool(f, a, 3)


def unpool(f: Facts, a: Arguments) -> Axes:
    """Values put back at the places in the image that ``indices``, of the same shape, hold."""
    rank = 3 if op_name(a.node).endswith("3d") else 2
    first = len(a.self) - rank
    for value in (a.self, a.indices):
        _space(f, value, first)
    lead = (f.same(x, y) for x, y in zip(a.self.axes[:first], a.indices.axes[:first], strict=True))
    return (*lead, *(f.pinned(n) for n in a.shape[first:]))


def affine_grid(f: Facts, a: Arguments) -> Axes:
    """Coordinates from matrices ``theta``."""
    for axis in a.theta.axes:
        f.pin(axis, "it holds coordinates")
    return tuple(f.pinned(n) for n in a.shape)


def grid_sample(f: Facts, a: Arguments) -> Axes:
    """``input [B, C, H, W]`` sampled at ``grid [B, H', W', 2]``: as many points as the grid has.

    Axis 0 may hold more than the batch, such as heads that sample at points of their own.
    """
    _space(f, a.input, 2)
    f.pin(a.grid[-1], "it holds coordinates")
    return (f.same(a.input[0], a.grid[0]), a.input[1], *a.grid.axes[1:-1])


def im2col(f: Facts, a: Arguments) -> Axes:
    """``[B, C, H, W] -> [B, C x kernel, L]``."""
    _space(f, a.self, len(a.self) - 2)
    channel = a.self[-3]
    return (
        *a.self.axes[:-3],
        f.merge([channel, f.pinned(a.shape[-2] // len(channel))]),
        f.pinned(a.shape[-1]),
    )


def col2im(f: Facts, a: Arguments) -> Axes:
    """``[B, C x kernel, L] -> [B, C, H, W]``: overlapping windows are summed."""
    channel, kernel = f.split(a.self[-2], (a.shape[-3], len(a.self[-2]) // a.shape[-3]))
    f.pin(kernel, "its positions are places in a window")
    f.pin(a.self[-1], _WINDOW)
    return (*a.self.axes[:-2], channel, *(f.pinned(n) for n in a.shape[-2:]))


def unfold(f: Facts, a: Arguments) -> Axes:
    """``Tensor.unfold``: windows of one axis, with a last axis inside the window."""
    dim = int(a.dimension) % len(a.self)
    f.pin(a.self[dim], _WINDOW)
    axes = list(a.self.axes)
    axes[dim] = f.pinned(a.shape[dim])
    return (*axes, f.pinned(a.shape[-1]))


TABLE = {
    **dict.fromkeys(
        ("aten::max_pool1d", "aten::avg_pool1d", "aten::adaptive_avg_pool1d", "aten::adaptive_max_pool1d",
         "aten::upsample_linear1d", "aten::upsample_nearest1d", "aten::max_pool1d_with_indices",
         "aten::_upsample_nearest_exact1d", "aten::reflection_pad1d", "aten::replication_pad1d"),
        pool1d,
    ),
    **dict.fromkeys(
        ("aten::max_pool2d", "aten::avg_pool2d", "aten::adaptive_avg_pool2d", "aten::adaptive_max_pool2d",
         "aten::max_pool2d_with_indices", "aten::upsample_nearest2d", "aten::upsample_bilinear2d",
         "aten::upsample_bicubic2d", "aten::_upsample_bilinear2d_aa", "aten::_upsample_bicubic2d_aa",
         "aten::reflection_pad2d", "aten::replication_pad2d", "aten::_upsample_nearest_exact2d"),
        pool2d,
    ),
    **dict.fromkeys(
        ("aten::max_pool3d", "aten::avg_pool3d", "aten::adaptive_avg_pool3d", "aten::upsample_trilinear3d",
         "aten::upsample_nearest3d", "aten::adaptive_max_pool3d", "aten::max_pool3d_with_indices",
         "aten::_upsample_nearest_exact3d", "aten::reflection_pad3d", "aten::replication_pad3d"),
        pool3d,
    ),
    **dict.fromkeys(("aten::max_unpool2d", "aten::max_unpool3d"), unpool),
    "aten::affine_grid_generator": affine_grid,
    "aten::grid_sampler": grid_sample,
    "aten::im2col": im2col,
    "aten::col2im": col2im,
    "aten::unfold": unfold,
}  # fmt: skip
