"""Operators that act position by position: broadcast axes live and die together."""

from __future__ import annotations

from secateur.coupling.facts import Axes, Facts
from secateur.coupling.values import Arguments, Value


def broadcast(f: Facts, values: list[Axes], shape: tuple[int, ...]) -> Axes:
    """Axes of broadcast operands of shape ``shape``: every operand that spans an axis shares it."""
    out = []
    for back in range(len(shape), 0, -1):
        spanning = [v[-back] for v in values if len(v) >= back and len(v[-back]) == shape[-back]]
        spanning = [a for a in spanning if len(a) > 1]
        out.append(f.same(*spanning) if spanning else f.pinned(shape[-back]))
    return tuple(out)


def pointwise(f: Facts, a: Arguments) -> Axes:
    """Elementwise with broadcasting, whatever the number of operands."""
    return broadcast(f, [v.axes for _, v in a.operands()], a.shape)


def keep(f: Facts, a: Arguments) -> Axes:
    """The first tensor's axes: casts, copies, dropout, ``*_like``."""
    value: Value = next(v for _, v in a.operands())
    return value.axes


def write(f: Facts, a: Arguments) -> Axes:
    """In-place writes: the destination's axes, tied to those of what is written."""
    broadcast(f, [v.axes for _, v in a.operands()], a.shape)
    return next(v for _, v in a.operands()).axes


def prelu(f: Facts, a: Arguments) -> Axes:
    """``weight`` has one entry or one for each channel (axis 1)."""
    if len(a.weight[0]) > 1:
        f.same(a.self[min(1, len(a.self) - 1)], a.weight[0])
    return a.self.axes


def glu(f: Facts, a: Arguments) -> Axes:
    """First half times the sigmoid of the second half of an axis."""
    dim = a.dim(a.self)
    axis = a.self[dim]
    half = len(axis) // 2
    both = f.same(f.part(axis, 0, half), f.part(axis, half, len(axis)))
    return (*a.self.axes[:dim], both, *a.self.axes[dim + 1 :])


_ALIASES = """
absolute arccos arccosh arcsin arcsinh arctan arctan2 arctanh fix floor_divide greater greater_equal isclose isreal less
less_equal negative not_equal special_digamma special_erf special_erfc special_erfinv special_exp2 special_expit
special_expm1 special_gammainc special_gammaincc special_gammaln special_i0 special_log1p special_logit special_ndtr
special_polygamma special_psi special_round special_sinc special_xlogy
""".split()
"""Other names of pointwise operators, which the registry does not tag."""

TABLE = {
    **dict.fromkeys((f"aten::{name}" for name in _ALIASES), pointwise),
    **dict.fromkeys(
        (
            "aten::dropout", "aten::dropout_", "aten::feature_dropout", "aten::feature_dropout_",
            "aten::alpha_dropout", "aten::alpha_dropout_", "aten::feature_alpha_dropout",
            "aten::to", "aten::_to_copy", "aten::type_as", "aten::contiguous", "aten::clone", "aten::detach",
            "aten::detach_", "aten::alias", "aten::lift_fresh_copy", "aten::lift_fresh", "aten::float",
            "aten::zeros_like", "aten::ones_like", "aten::full_like", "aten::empty_like", "aten::rand_like",
            "aten::randn_like", "aten::randint_like", "aten::bernoulli", "aten::bernoulli_", "aten::zero_",
            "aten::view_as_self", "aten::requires_grad_", "aten::positive", "aten::resolve_conj", "aten::resolve_neg",
        ),
        keep,
    ),
    **dict.fromkeys(
        (
            "aten::hardswish", "aten::hardswish_", "aten::hardtanh", "aten::hardtanh_", "aten::hardsigmoid",
            "aten::hardsigmoid_", "aten::relu", "aten::relu_", "aten::relu6", "aten::relu6_", "aten::silu_",
            "aten::leaky_relu_", "aten::selu", "aten::selu_", "aten::celu", "aten::elu_", "aten::mish_",
            "aten::masked_fill", "aten::addcmul", "aten::addcdiv", "aten::lerp", "aten::rsub",
            "aten::clamp", "aten::clamp_", "aten::clamp_min", "aten::clamp_max", "aten::clip", "aten::square",
            "aten::log_sigmoid", "aten::softplus", "aten::threshold", "aten::threshold_", "aten::rrelu",
            "aten::logical_and", "aten::logical_or", "aten::logical_not", "aten::bitwise_not", "aten::subtract",
            "aten::multiply", "aten::divide", "aten::true_divide", "aten::__and__", "aten::__or__",
        ),
        pointwise,
    ),
    **dict.fromkeys(
        ("aten::copy_", "aten::fill_", "aten::masked_fill_", "aten::add_", "aten::mul_", "aten::sub_", "aten::div_",
         "aten::floor_divide_", "aten::divide_", "aten::true_divide_", "aten::multiply_", "aten::subtract_"),
        write,
    ),
    "aten::prelu": prelu,
    "aten::glu": glu,
}  # fmt: skip
