"""Blocks for any layout: activations, sums, concatenations, splits, slices, pads, copies, reshapes."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from torch import nn

from tests.random_networks.block import Spec, weight
from tests.random_networks.choices import Choices
from tests.random_networks.scope import Made, Scope, divisor

ACTIVATIONS = (
    "F.relu(x)", "F.gelu(x)", "F.silu(x)", "x.tanh()", "x.sigmoid()", "F.hardswish(x)", "F.leaky_relu(x, 0.2)",
    "F.elu(x)", "F.softplus(x)", "x.clamp(-1, 1)", "F.relu6(x)", "x.abs()", "F.mish(x)", "x * x.sigmoid()",
    "torch.where(x > 0, x, 0.1 * x)", "F.relu(x.clone(), inplace=True)", "F.dropout(x, 0.3, m.training)",
    "x.masked_fill(x < 0, 0.0)", "x.float().to(x.dtype).exp().clamp(max=3)", "x.cos()", "x / (1 + x.abs())",
)  # fmt: skip


def activation(c: Choices, s: Scope) -> Made | None:
    """Any function position by position, and PReLU."""
    if s.x.layout == "ids":
        return None
    if s.x.is_map and c.chance(8):
        return s.code("m.act(x)", act=nn.PReLU(c.pick((1, s.x.features))))
    return s.code(c.pick(ACTIVATIONS))


def combine(c: Choices, s: Scope) -> Made | None:
    """Two values of one shape, added, gated, the larger of them, or chosen by place."""
    fits = s.others(lambda o: o.layout == s.x.layout and o.shape == s.x.shape)
    if s.x.layout == "ids" or not fits:
        return None
    other = c.pick(fits)
    text = c.pick(
        ("x + y", "x * y.sigmoid()", "torch.maximum(x, y)", "torch.where(x > y, x, y)", "x - 0.5 * y",
         "torch.lerp(x, y, 0.3)", "torch.addcmul(x, y.tanh(), x.sigmoid())")
    )  # fmt: skip
    held = tuple(a or b for a, b in zip(s.x.fixed, s.values[other].fixed, strict=True))
    return s.code(text, replace(s.x, fixed=held), also=[other])


def project_and_add(c: Choices, s: Scope) -> Made | None:
    """Another value of the same lead, projected to this one's features and added."""
    if not s.x.is_rows:
        return None
    fits = s.others(lambda o: o.is_rows and o.shape[:-1] == s.x.shape[:-1] and o.shape != s.x.shape)
    if not fits:
        return None
    other = c.pick(fits)
    return s.code("x + m.p(y)", also=[other], p=nn.Linear(s.values[other].features, s.x.features))


def concatenate(c: Choices, s: Scope) -> Made | None:
    """Two or three values joined along their features, or a value with itself changed."""
    if s.x.layout == "ids" or s.x.features > 16:
        return None
    i = s.x.feature - 1

    def fits(o: Spec) -> bool:
        return (
            o.layout == s.x.layout
            and len(o.shape) == len(s.x.shape)
            and (*o.shape[:i], *o.shape[i + 1 :]) == (*s.x.shape[:i], *s.x.shape[i + 1 :])
            and o.shape[i] <= 16
        )

    found = s.others(fits)
    if not found:
        text = c.pick(("torch.cat([x, -x.relu()], {d})", "torch.cat([x, m.more.expand_as(x)], {d})"))
        if "m.more" in text:
            return s.code(text.format(d=s.x.feature), s.x.with_features(2 * s.x.features), more=weight(1))
        return s.code(text.format(d=s.x.feature), s.x.with_features(2 * s.x.features))
    also = [c.pick(found) for _ in range(c.pick((1, 2)))]
    names = ", ".join("xyz"[: 1 + len(also)])
    size = s.x.features + sum(s.values[o].features for o in also)
    return s.code(f"torch.cat([{names}], {s.x.feature})", s.x.with_features(size), also=also)


def parts(c: Choices, s: Scope) -> Made | None:
    """A split, even or not, by any of torch's names; the parts go apart, or are put together again."""
    if s.x.layout == "ids" or s.x.features < 4:
        return None
    n, d = s.x.features, s.x.feature
    kind = c.pick(("chunk", "split", "sizes", "tensor_split", "narrow", "slice"))
    if kind == "slice":
        start = c.number(0, n - 2)
        stop = c.number(start + 1, n)
        index = ", ".join(":" if a != d else f"{start}:{stop}" for a in range(len(s.x.shape) + 1))
        return s.code(f"x[{index}]", s.x.with_features(stop - start, s.x.fixed[d - 1]))
    if kind == "narrow":
        start = c.number(0, n - 2)
        length = c.number(1, n - start)
        text = f"x.narrow({d}, {start}, {length})"
        return s.code(text, s.x.with_features(length, s.x.fixed[d - 1]))
    if kind == "sizes":
        first = c.number(1, n - 2)
        second = c.number(1, n - first - 1)
        sizes = [first, second, n - first - second]
        text = f"x.split({sizes}, dim={d})"
    elif kind == "split":
        step = c.number(2, max(2, n // 2))
        sizes = [min(step, n - k) for k in range(0, n, step)]
        text = f"x.split({step}, dim={d})"
    elif kind == "chunk":
        count = c.pick((2, 3, 4))
        step = -(-n // count)
        sizes = [min(step, n - k) for k in range(0, n, step)]
        text = f"x.chunk({count}, dim={d})"
    else:
        count = c.pick((2, 3))
        sizes = [n // count + (k < n % count) for k in range(count)]
        text = f"x.tensor_split({count}, dim={d})"
    if len(sizes) < 2:
        return None
    specs = [s.x.with_features(k, s.x.fixed[d - 1]) for k in sizes]
    after = c.pick(("apart", "reversed", "one changed", "folded"))
    if after == "apart":
        return s.code(text, *specs)
    if after == "reversed":
        return s.code(f"torch.cat({text}[::-1], {d})")
    if after == "one changed":
        return s.code(f"(lambda a, *rest: torch.cat([a.tanh(), *rest], {d}))(*{text})")
    if len(set(sizes)) == 1:
        return s.code(f"(lambda a, b, *rest: a * b.sigmoid())(*{text})", specs[0])
    return None


def strided(c: Choices, s: Scope) -> Made | None:
    """Every second feature, or tokens two by two."""
    if s.x.layout == "ids":
        return None
    n, d = s.x.features, s.x.feature
    if s.x.is_rows and len(s.x.shape) == 2 and s.x.shape[0] % 2 == 0 and c.chance():
        text = "torch.cat([x[:, 0::2], x[:, 1::2]], -1)"
        return s.code(text, Spec("rows", (s.x.shape[0] // 2, 2 * n), s.x.fixed)) if n <= 16 else None
    if n < 4:
        return None
    phase = c.number(0, 1)
    index = ", ".join(":" if a != d else f"{phase}::2" for a in range(len(s.x.shape) + 1))
    return s.code(f"x[{index}]", s.x.with_features(len(range(phase, n, 2)), s.x.fixed[d - 1]))


def padded(c: Choices, s: Scope) -> Made | None:
    """Zeros, or another constant, around features; zeros or reflections around space."""
    if s.x.layout == "ids":
        return None
    if s.x.is_map and c.chance():
        rank = len(s.x.space)
        mode = c.pick(("constant", "replicate", "reflect"))
        if mode == "reflect" and min(s.x.space) < 2:
            return None
        grown = [n + 2 for n in s.x.space]
        return (
            s.code(f"F.pad(x, {(1,) * 2 * rank}, mode='{mode}')", s.x.with_space(grown))
            if prod(grown) < 150
            else None
        )
    before, after = c.number(0, 2), c.number(1, 3)
    value = c.pick((0.0, 0.5))
    back = len(s.x.shape) - s.x.feature
    pads = (*(0,) * 2 * back, before, after)
    out = s.x.with_features(s.x.features + before + after)
    return s.code(f"F.pad(x, {pads}, value={value})", out) if out.features <= 24 else None


def copies(c: Choices, s: Scope) -> Made | None:
    """Features repeated, as a whole or in place; values expanded along a new axis."""
    if s.x.layout == "ids" or s.x.features > 12:
        return None
    n, d, rank = s.x.features, s.x.feature, len(s.x.shape)
    times = c.pick((2, 3))
    kind = c.pick(("repeat", "interleave", "expand", "stack"))
    if kind == "repeat":
        counts = [times if a == d else 1 for a in range(rank + 1)]
        return s.code(f"x.repeat({str(counts)[1:-1]})", s.x.with_features(times * n))
    if kind == "interleave":
        return s.code(f"x.repeat_interleave({times}, dim={d})", s.x.with_features(times * n))
    if not s.x.is_rows or rank > 2:
        return None
    out = Spec("rows", (times, *s.x.shape), (False, *s.x.fixed))
    if kind == "stack":
        return s.code("torch.stack([x, x.tanh()], 1)", Spec("rows", (2, *s.x.shape), (True, *s.x.fixed)))
    return s.code(f"x.unsqueeze(1).expand(-1, {times}, {', '.join(['-1'] * rank)})", out)


def regrouped(c: Choices, s: Scope) -> Made | None:
    """Axes of rows parted, merged and permuted."""
    if not s.x.is_rows:
        return None
    shape, fixed, rank = s.x.shape, s.x.fixed, len(s.x.shape)
    kind = c.pick(("part", "merge", "permute", "heads", "any"))
    if kind in ("part", "heads"):
        axis = rank if kind == "heads" else c.number(1, rank)
        a = divisor(c, shape[axis - 1])
        if a == 1 or rank >= 4:
            return None
        two = (a, shape[axis - 1] // a)
        if kind == "heads":  # interleaves features and stays in place
            text = f"x.unflatten(-1, {two}).transpose(-1, -2).flatten(-2)"
            return s.code(text)
        out = Spec(
            "rows",
            (*shape[: axis - 1], *two, *shape[axis:]),
            (*fixed[: axis - 1], *[fixed[axis - 1]] * 2, *fixed[axis:]),
        )
        sizes = ", ".join(["x.shape[0]", *map(str, out.shape)])
        return s.code(c.pick((f"x.unflatten({axis}, {two})", f"x.reshape({sizes})")), out)
    if rank < 2:
        return None
    if kind == "merge":
        axis = c.number(1, rank - 1)
        out = Spec(
            "rows", (*shape[: axis - 1], shape[axis - 1] * shape[axis], *shape[axis + 1 :]),
            (*fixed[: axis - 1], fixed[axis - 1] and fixed[axis], *fixed[axis + 1 :]),
        )  # fmt: skip
        sizes = ", ".join(["x.shape[0]", *map(str, out.shape)])
        return (
            s.code(c.pick((f"x.flatten({axis}, {axis + 1})", f"x.reshape({sizes})")), out)
            if max(out.shape) <= 150
            else None
        )
    if kind == "permute":
        first = c.number(1, rank - 1)
        order = list(range(1, rank + 1))
        order[first - 1], order[first] = order[first], order[first - 1]
        if rank > 2 and c.chance(3):
            order = order[1:] + order[:1]
        out = Spec("rows", tuple(shape[o - 1] for o in order), tuple(fixed[o - 1] for o in order))
        return s.code(f"x.permute(0, {', '.join(map(str, order))})", out)
    # Any other pair of factors of the last two axes.
    whole = shape[-2] * shape[-1]
    options = [k for k in range(2, whole) if whole % k == 0 and k != shape[-2]]
    if not options or whole > 150:
        return None
    k = c.pick(options)
    held = fixed[-1] and fixed[-2]
    out = Spec("rows", (*shape[:-2], k, whole // k), (*fixed[:-2], held, held))
    sizes = ", ".join(["x.shape[0]", *map(str, out.shape)])
    return s.code(f"x.reshape({sizes})", out)


def ordered(c: Choices, s: Scope) -> Made | None:
    """Operators that look at the order of features; some lock them."""
    if not s.x.is_rows:
        return None
    n = s.x.features
    text = c.pick(
        ("x.cumsum(-1)", "x.roll(1, -1)", "x.flip(-1)", "x.sort(-1).values", f"x[..., {list(reversed(range(n)))}]",
         "x + x.flip(-1)", "x * torch.arange(x.shape[-1], dtype=x.dtype) * 0.1", "x - x[..., :1]")
    )  # fmt: skip
    if (
        text.endswith("]]") or "arange" in text
    ):  # a list in the code is written anew, of numbers some are selected
        return s.code(text)
    return s.code(text, s.x.with_features(n, not text.endswith(("x.flip(-1)", ":1]"))))


def again(c: Choices, s: Scope) -> Made | None:
    """A block that was used before, once more: shared layers."""
    fits = [
        b
        for b in s.made
        if len(b.inputs) == 1 and next(b.block.parameters(), None) is not None
        and (s.values[b.inputs[0]].layout, s.values[b.inputs[0]].shape) == (s.x.layout, s.x.shape)
    ]  # fmt: skip
    if not fits:
        return None
    before = c.pick(fits)
    if s.values[before.inputs[0]].fixed == s.x.fixed and before.block.tokens is None:
        return Made(before.block, (s.at,), before.outputs)
    before.block.told(blind=True)
    return Made(
        before.block, (s.at,), tuple(replace(o, fixed=(False,) * len(o.shape)) for o in before.outputs)
    )


MAKERS = {
    activation: 5, combine: 4, concatenate: 3, parts: 4, padded: 1, strided: 1, copies: 1, regrouped: 2, ordered: 1,
    again: 2, project_and_add: 1,
}  # fmt: skip
