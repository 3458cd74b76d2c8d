"""Norms, softmax and reductions: positions depend on each other, so a cut restricts the operator."""

from __future__ import annotations

from secateur.coupling.facts import Axes, Axis, Facts
from secateur.coupling.rules.pointwise import pointwise
from secateur.coupling.values import Arguments, Value, op_name


def batch_norm(f: Facts, a: Arguments) -> Axes:
    """``input [B, C, *]`` with weight, bias and running statistics ``[C]``."""
    channel = a.input[1]
    for name in ("weight", "bias", "running_mean", "running_var"):
        if a.get(name) is not None:
            channel = f.same(channel, a.get(name)[0])
    if a.get("training") or a.get("use_input_stats"):
        _over(f, "input", a.input, [i for i in range(len(a.input)) if i != 1])
    return (a.input[0], channel, *a.input.axes[2:])


def layer_norm(f: Facts, a: Arguments) -> Axes:
    """Normalises over the last axes, which weight and bias span."""
    count = len(a.normalized_shape)
    axes = list(a.input.axes)
    _over(f, "input", a.input, range(len(axes) - count, len(axes)))
    for name in ("weight", "bias"):
        if a.get(name) is not None:
            for i in range(1, count + 1):
                axes[-i] = f.same(axes[-i], a.get(name)[-i])
    return tuple(axes)


def group_norm(f: Facts, a: Arguments) -> Axes:
    """``input [B, C, *]``, normalised over each of ``C = groups x inner``."""
    groups, channel = int(a.num_groups), a.input[1]
    own, inner = f.split(channel, (groups, len(channel) // groups))
    f.note("groups", own)
    _over(f, "input", a.input, list(range(2, len(a.input))))
    if len(inner) > 1:
        f.reduce("input", 1, channel)
    for name in ("weight", "bias"):
        if a.get(name) is not None:
            channel = f.same(channel, a.get(name)[0])
    return (a.input[0], channel, *a.input.axes[2:])


def softmax(f: Facts, a: Arguments) -> Axes:
    """Normalises over one axis; shapes are kept."""
    _over(f, "self", a.self, [a.dim(a.self)])
    return a.self.axes


def running(f: Facts, a: Arguments) -> Axes:
    """Cumulative sums and sorts: the order along one axis matters."""
    dim = a.dim(a.self)
    axes = list(a.self.axes)
    axes[dim] = f.pin(axes[dim], "the operator depends on the order along it")
    return tuple(axes)


def differences(f: Facts, a: Arguments) -> Axes:
    """Each position less the one before it."""
    dim = a.dim(a.self)
    values = [v for _, v in a.operands()]
    for value in values:
        f.pin(value[dim], "the operator subtracts its neighbours")
    return tuple(f.pinned(n) if i == dim else f.same(*(v[i] for v in values)) for i, n in enumerate(a.shape))


def reduction(f: Facts, a: Arguments) -> list[Axes]:
    """Means, norms, extrema: drops the axes, or keeps them with size one."""
    if isinstance(a.get("other"), Value):  # the larger of two tensors
        return [pointwise(f, a)]
    value: Value = a.get("self") if a.get("self") is not None else next(v for _, v in a.operands())
    dims = _dims(a, value)
    if _gives_positions(a):
        for i in dims:
            f.pin(
                value[i], "the operator returns positions along it, such as the class with the largest logit"
            )
    _over(f, "self", value, dims)
    return _drop(f, a, value, dims)


def _gives_positions(a: Arguments) -> bool:
    """``argmax``, and ``max``, ``median`` or ``mode`` along an axis, whose second output holds indices."""
    name = op_name(a.node).removeprefix("aten::")
    return name in ("argmax", "argmin") or (
        len(a.outputs) == 2 and name in ("max", "min", "median", "nanmedian", "mode", "kthvalue")
    )


def summation(f: Facts, a: Arguments) -> list[Axes]:
    """A sum is a contraction with ones: masked positions add nothing."""
    dims = _dims(a, a.self)
    for i in dims:
        f.contract("self", i, a.self[i])
    return _drop(f, a, a.self, dims)


def _dims(a: Arguments, value: Value) -> list[int]:
    dim = a.get("dim")
    if dim is None or dim == []:
        return list(range(len(value)))
    return [d % max(len(value), 1) for d in (dim if isinstance(dim, list) else [dim])]


def _drop(f: Facts, a: Arguments, value: Value, dims: list[int]) -> list[Axes]:
    if a.get("keepdim"):
        kept = tuple(f.pinned(1) if i in dims else axis for i, axis in enumerate(value.axes))
    else:
        kept = tuple(axis for i, axis in enumerate(value.axes) if i not in dims)
    return [kept] * len(a.outputs)


def _over(f: Facts, name: str, value: Value, dims: range | list[int]) -> None:
    for i in dims:
        axis: Axis = value[i]
        if len(axis) > 1:
            f.reduce(name, i, axis)


TABLE = {
    **dict.fromkeys(("aten::batch_norm", "aten::instance_norm", "aten::_native_batch_norm_legit"), batch_norm),
    **dict.fromkeys(("aten::layer_norm", "aten::rms_norm"), layer_norm),
    "aten::group_norm": group_norm,
    **dict.fromkeys(
        ("aten::softmax", "aten::log_softmax", "aten::_softmax", "aten::special_softmax",
         "aten::special_log_softmax"),
        softmax,
    ),
    "aten::diff": differences,
    **dict.fromkeys(("aten::cumsum", "aten::cumprod", "aten::logcumsumexp"), running),
    **dict.fromkeys(
        (
            "aten::mean", "aten::amax", "aten::amin", "aten::aminmax", "aten::max", "aten::min", "aten::argmax",
            "aten::argmin", "aten::var", "aten::std", "aten::var_mean", "aten::std_mean", "aten::logsumexp",
            "aten::prod", "aten::any", "aten::all", "aten::median", "aten::linalg_vector_norm", "aten::norm",
            "aten::linalg_norm", "aten::linalg_matrix_norm", "aten::nanmean", "aten::nanmedian", "aten::mode",
            "aten::kthvalue", "aten::special_logsumexp",
        ),
        reduction,
    ),
    **dict.fromkeys(("aten::sum", "aten::nansum", "aten::count_nonzero"), summation),
}  # fmt: skip
