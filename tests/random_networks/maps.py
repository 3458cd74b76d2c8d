"""Blocks on maps ``[B, C, *space]``: convolutions, norms over channels, pooling, gates, shuffles."""

from __future__ import annotations

from math import prod

import torch
from torch import nn

from tests.random_networks.block import Code, map_of, rows_of
from tests.random_networks.choices import Choices
from tests.random_networks.scope import Made, Scope, divisor, width

CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
INSTANCE_NORM = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


def convolution(c: Choices, s: Scope) -> Made | None:
    """Kernels of one or three, strides, dilation, padding of every kind."""
    if not s.x.is_map:
        return None
    kernel, out = c.pick((1, 3)), width(c)
    least = min(s.x.space)
    stride = c.pick((1, 2)) if least >= 4 else 1
    dilation = 2 if kernel == 3 and least >= 5 and c.chance(6) else 1
    padding = dilation * (kernel // 2)
    mode = (
        c.pick(("zeros", "zeros", "zeros", "reflect", "circular")) if padding and least > padding else "zeros"
    )
    layer = CONV[len(s.x.space) - 1](
        s.x.features, out, kernel, stride, padding, dilation, bias=not c.chance(3), padding_mode=mode
    )
    space = [(n + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1 for n in s.x.space]
    return s.code("m.conv(x)", map_of(out, *space), conv=layer)


def grouped(c: Choices, s: Scope) -> Made | None:
    """Groups, depthwise, and depthwise with a multiplier."""
    if not s.x.is_map or s.x.features == 1:
        return None
    channels, kernel = s.x.features, c.pick((1, 3))
    kind = c.pick(("depthwise", "groups", "multiplier"))
    if kind == "groups":
        groups = divisor(c, channels)
        out = groups * c.pick((1, 2, 3, 4))
    else:
        groups, out = channels, channels * (c.pick((2, 3)) if kind == "multiplier" else 1)
    if out > 32:
        return None
    layer = CONV[len(s.x.space) - 1](
        channels, out, kernel, padding=kernel // 2, groups=groups, bias=c.chance()
    )
    return s.code("m.conv(x)", s.x.with_features(out), conv=layer)


def transposed(c: Choices, s: Scope) -> Made | None:
    """Transposed convolutions, in groups too."""
    if not s.x.is_map or max(s.x.space) > 8:
        return None
    channels, stride = s.x.features, c.pick((1, 2))
    groups = c.pick((1, divisor(c, channels), channels if channels <= 8 else 1))
    out = groups * c.pick((1, 2, 3)) if groups > 1 else width(c)
    kernel = c.pick((2, 3))
    extra = c.number(0, stride - 1)
    layer = TRANSPOSED[len(s.x.space) - 1](
        channels, out, kernel, stride, 0, extra, groups=groups, bias=c.chance()
    )
    space = [(n - 1) * stride + kernel + extra for n in s.x.space]
    if prod(space) > 300 or out > 32:
        return None
    return s.code("m.up(x)", map_of(out, *space), up=layer)


def norm(c: Choices, s: Scope) -> Made | None:
    """Batch, group, instance and layer norm over channels."""
    if not s.x.is_map:
        return None
    channels, rank = s.x.features, len(s.x.space)
    kind = c.pick(("batch", "batch", "group", "instance", "layer", "whole", "rms"))
    if kind == "batch":
        return s.code("m.norm(x)", norm=BATCH_NORM[rank - 1](channels, affine=not c.chance(5)))
    if kind == "group":
        groups = c.pick((divisor(c, channels), 1, channels))
        return s.code("m.norm(x)", norm=nn.GroupNorm(groups, channels))
    if kind == "instance":
        if prod(s.x.space) == 1:
            return None
        affine, track = c.chance(), c.chance()
        return s.code(
            "m.norm(x)", norm=INSTANCE_NORM[rank - 1](channels, affine=affine, track_running_stats=track)
        )
    if kind == "whole":
        return s.code("m.norm(x)", norm=nn.LayerNorm((channels, *s.x.space)))
    layer = nn.LayerNorm(channels) if kind == "layer" else nn.RMSNorm(channels)
    return s.code("m.norm(x.movedim(1, -1)).movedim(-1, 1)", norm=layer)


def pool(c: Choices, s: Scope) -> Made | None:
    """Pooling, adaptive pooling and resampling."""
    if not s.x.is_map:
        return None
    rank, space = len(s.x.space), s.x.space
    kind = c.pick(("max", "avg", "adaptive", "nearest", "linear"))
    if kind in ("max", "avg"):
        if min(space) < 2:
            return None
        return s.code(f"F.{kind}_pool{rank}d(x, 2)", s.x.with_space([n // 2 for n in space]))
    if kind == "adaptive":
        n = c.pick((2, 1, 3))
        return s.code(f"F.adaptive_avg_pool{rank}d(x, {n})", s.x.with_space([n] * rank))
    if prod(space) > 64:
        return None
    mode = "nearest" if kind == "nearest" else ("linear", "bilinear", "trilinear")[rank - 1]
    return s.code(f"F.interpolate(x, scale_factor=2, mode='{mode}')", s.x.with_space([2 * n for n in space]))


def squeeze_excite(c: Choices, s: Scope) -> Made | None:
    """A gate from the pooled channels, by linear layers or by 1x1 convolutions."""
    if not s.x.is_map:
        return None
    channels, rank = s.x.features, len(s.x.space)
    inner = c.pick((4, 6, 2))
    last = c.pick(("sigmoid", "hardsigmoid", "tanh"))
    if c.chance():
        conv = CONV[rank - 1]
        axes = tuple(range(2, 2 + rank))
        text = f"x * F.{last}(m.up(F.relu(m.down(x.mean({axes}, keepdim=True)))))"
        return s.code(text, down=conv(channels, inner, 1), up=conv(inner, channels, 1))
    view = "(" + ", ".join(["x.shape[0]", "-1", *["1"] * rank]) + ")"
    text = f"x * F.{last}(m.up(F.relu(m.down(x.flatten(2).mean(2))))).view{view}"
    return s.code(text, down=nn.Linear(channels, inner), up=nn.Linear(inner, channels))


def shuffle(c: Choices, s: Scope) -> Made | None:
    """Channels interleaved, by torch's operator or by a view; pixels shuffled into channels and back."""
    if not s.x.is_map:
        return None
    channels, space = s.x.features, s.x.space
    kind = c.pick(("view", "operator", "up", "down", "by hand"))
    if kind == "by hand" and len(space) == 2 and not any(n % 2 for n in space) and channels <= 6:
        h, w = (n // 2 for n in space)
        order = c.pick(((0, 1, 3, 5, 2, 4), (0, 3, 5, 1, 2, 4)))
        text = f"x.view(-1, {channels}, {h}, 2, {w}, 2).permute{order}.reshape(x.shape[0], {4 * channels}, {h}, {w})"
        return s.code(text.replace("x.view", "x.reshape"), map_of(4 * channels, h, w))
    if kind == "up" and len(space) == 2 and channels % 4 == 0 and prod(space) <= 36:
        return s.code("F.pixel_shuffle(x, 2)", map_of(channels // 4, *[2 * n for n in space]))
    if kind == "down" and len(space) == 2 and not any(n % 2 for n in space) and channels <= 8:
        return s.code("F.pixel_unshuffle(x, 2)", map_of(channels * 4, *[n // 2 for n in space]))
    groups = divisor(c, channels)
    if groups == 1:
        return None
    if kind == "operator" and len(space) == 2:
        return s.code(f"F.channel_shuffle(x, {groups})")
    text = f"x.unflatten(1, ({groups}, {channels // groups})).transpose(1, 2).flatten(1, 2)"
    return s.code(text)


def option_a(c: Choices, s: Scope) -> Made | None:
    """ResNet's shortcut without weights: every second pixel, channels padded with zeros."""
    if not s.x.is_map or len(s.x.space) != 2 or min(s.x.space) < 4 or s.x.features > 8:
        return None
    channels, out = s.x.features, s.x.features + 4
    space = [(n + 1) // 2 for n in s.x.space]
    before = c.number(0, 4)
    text = f"F.relu(m.conv(x)) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, {before}, {4 - before}))"
    return s.code(text, map_of(out, *space), conv=nn.Conv2d(channels, out, 3, 2, 1))


def residual(c: Choices, s: Scope) -> Made | None:
    """Two convolutions beside the identity, a projection, or a scaled identity."""
    if not s.x.is_map:
        return None
    channels, rank, inner = s.x.features, len(s.x.space), width(c)
    conv, bn = CONV[rank - 1], BATCH_NORM[rank - 1]
    kind = c.pick(("identity", "projection", "layer scale", "bottleneck"))
    out = width(c) if kind == "projection" else channels
    parts: dict[str, nn.Module | nn.Parameter] = {
        "a": conv(channels, inner, 3, padding=1, bias=False),
        "n": bn(inner),
        "b": conv(inner, out, 3, padding=1),
    }
    body = "m.b(F.relu(m.n(m.a(x))))"
    if kind == "bottleneck":
        groups = 2 if inner % 2 == 0 else 1
        parts["g"] = conv(inner, inner, 3, padding=1, groups=groups)
        body = "m.b(F.silu(m.g(F.relu(m.n(m.a(x))))))"
    if kind == "projection":
        parts["p"] = conv(channels, out, 1)
    if kind == "layer scale":
        parts["gamma"] = nn.Parameter(torch.rand(out, *[1] * rank))
        body = f"m.gamma * {body}"
    shortcut = "m.p(x)" if kind == "projection" else "x"
    return s.code(f"F.relu({shortcut} + {body})", s.x.with_features(out), **parts)


def gate_over_space(c: Choices, s: Scope) -> Made | None:
    """A gate for each place, from the mean and the largest of its channels."""
    if not s.x.is_map or len(s.x.space) != 2:
        return None
    text = "x * m.conv(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)).sigmoid()"
    made = s.code(text, conv=nn.Conv2d(2, 1, 3, padding=1))
    made.block.told(blind=not s.x.fixed[0])
    return made


def response_norm(c: Choices, s: Scope) -> Made | None:
    """ConvNeXt V2's norm: what a channel holds in space, over the mean of all channels."""
    if not s.x.is_map or len(s.x.space) != 2:
        return None
    channels = s.x.features
    text = (
        "(lambda n: x * m.gamma * n / (n.mean(1, keepdim=True) + 1e-6) + x)(x.norm(dim=(2, 3), keepdim=True))"
    )
    made = s.code(text, gamma=nn.Parameter(torch.rand(channels, 1, 1)))
    made.block.told(blind=not s.x.fixed[0])
    return made


def windows(c: Choices, s: Scope) -> Made | None:
    """Neighbourhoods as columns, mixed by a layer."""
    if not s.x.is_map or len(s.x.space) != 2 or s.x.features > 8 or min(s.x.space) < 3:
        return None
    channels, out = s.x.features, width(c)
    places = (s.x.space[0] - 2) * (s.x.space[1] - 2)
    text = "m.mix(F.unfold(x, 3).transpose(1, 2))"
    return s.code(text, rows_of(places, out), mix=nn.Linear(channels * 9, out))


def to_rows(c: Choices, s: Scope) -> Made | None:
    """Places as tokens, places as features, or the mean over places."""
    if not s.x.is_map:
        return None
    channels, held = s.x.features, s.x.fixed[0]
    axes = tuple(range(2, 2 + len(s.x.space)))
    kind = c.pick(("mean", "tokens", "flat", "last"))
    if kind == "mean":
        return s.code(f"x.mean({axes})", rows_of(channels, fixed=[held]))
    if kind == "tokens":
        places = prod(s.x.space)
        return s.code("x.flatten(2).transpose(1, 2)", rows_of(places, channels, fixed=[True, held]))
    if kind == "flat":
        if channels * prod(s.x.space) > 300:
            return None
        return s.code("x.flatten(1)", rows_of(channels * prod(s.x.space), fixed=[held]))
    return s.code("x.movedim(1, -1)", rows_of(*s.x.space, channels, fixed=[*(True for _ in axes), held]))


def weird_convolution(c: Choices, s: Scope) -> Made | None:
    """A convolution whose weight is standardised, normalised by torch, or shared by two paths."""
    if not s.x.is_map or len(s.x.space) != 2:
        return None
    channels, out = s.x.features, width(c)
    kind = c.pick(("twice", "standardised", "weight norm"))
    if kind == "twice":
        layer = nn.Conv2d(channels, channels, 3, padding=1)
        return s.code("m.conv(F.relu(m.conv(x))) + x", conv=layer)
    layer = nn.Conv2d(channels, out, 3, padding=1)
    if kind == "standardised":
        text = (
            "F.conv2d(x, (m.conv.weight - m.conv.weight.mean((1, 2, 3), keepdim=True))"
            " / (m.conv.weight.std((1, 2, 3), keepdim=True) + 1e-5), m.conv.bias, padding=1)"
        )
    else:
        layer, text = nn.utils.parametrizations.weight_norm(layer), "m.conv(x)"
    made = Made(Code(text, conv=layer), (s.at,), (s.x.with_features(out),))
    made.block.told(blind=True)  # the folded weight is not the module's own
    return made


MAKERS = {
    convolution: 6, norm: 4, grouped: 3, residual: 3, pool: 2, squeeze_excite: 2, shuffle: 2, to_rows: 3,
    transposed: 2, option_a: 1, windows: 1, gate_over_space: 1, response_norm: 1, weird_convolution: 1,
}  # fmt: skip
