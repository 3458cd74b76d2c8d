"""Blocks that are rarer, each a line: partial writes, batches folded, outer products, look-ups, windows."""

from __future__ import annotations

from math import prod

import torch
from torch import nn

from tests.random_networks.block import Spec, rows_of, weight
from tests.random_networks.choices import Choices
from tests.random_networks.rows import reducing
from tests.random_networks.scope import Made, Scope, divisor, width


def written(c: Choices, s: Scope) -> Made | None:
    """Part of a value written over in place, or a shift of some features along space."""
    if s.x.layout == "ids" or s.x.features < 3:
        return None
    n, d = s.x.features, s.x.feature
    k = c.number(1, n - 1)
    before = ", ".join([":"] * d)
    kind = c.pick(("scaled", "copied", "shifted", "filled", "masked"))
    if kind == "scaled":
        return s.code(f"(lambda t: (t[{before}, :{k}].mul_(0.5), t)[1])(x.clone())")
    if kind == "copied":
        text = f"(lambda t: (t[{before}, {k}:].copy_(x[{before}, {k}:].tanh()), t)[1])(torch.zeros_like(x))"
        return s.code(text)
    if kind == "filled":
        return s.code(f"(lambda t: (t[{before}, {k}:].fill_(0.3), t)[1])(x.clone())")
    if kind == "masked":
        return s.code("x.clone().masked_fill_(x > 0.5, 0.5)")
    if not s.x.is_map:
        return s.code("x.clone().add_(1.0).mul_(x.sigmoid())")
    text = (
        f"(lambda t: (t[:, :{k}, 1:].copy_(x[:, :{k}, :-1]), t[:, {k}:].copy_(x[:, {k}:]), t)[2])"
        "(torch.zeros_like(x))"
    )
    return s.code(text) if s.x.space[0] > 1 else None


def folded_batch(c: Choices, s: Scope) -> Made | None:
    """The batch merged with the lead and parted again, with a layer between; windows of tokens as a batch."""
    if not s.x.is_rows or len(s.x.shape) < 2:
        return None
    *lead, d = s.x.shape
    out = width(c)
    kind = c.pick(("flat", "windows", "norm", "frames"))
    sizes = ", ".join(map(str, lead))
    if kind == "flat":
        text = f"m.fc(x.reshape(-1, {d})).view(-1, {sizes}, {out})"
        return s.code(text, s.x.with_features(out), fc=nn.Linear(d, out))
    if kind == "norm":
        text = f"m.norm(x.flatten(0, -2)).reshape(x.shape[0], {sizes}, {d})"
        return s.code(text, norm=nn.BatchNorm1d(d))
    if kind == "windows" and len(lead) == 1:
        w = divisor(c, lead[0])
        text = f"m.fc(x.view(-1, {w}, {d}).softmax(1)).view(-1, {lead[0]}, {out})"
        if w == 1 or not s.x.fixed[0]:
            return None
        return s.code(text.replace("x.view", "x.reshape"), s.x.with_features(out), fc=nn.Linear(d, out))
    if len(lead) != 2 or not all(s.x.fixed[:2]):
        return None
    text = f"m.conv(x.movedim(-1, 2).flatten(0, 1)).unflatten(0, (-1, {lead[0]})).movedim(2, -1)"
    return s.code(text, s.x.with_features(out), conv=nn.Conv1d(d, out, 3, padding=1))


def spelled(c: Choices, s: Scope) -> Made | None:
    """The same shapes by other names."""
    if not s.x.is_rows:
        return None
    d, rank = s.x.features, len(s.x.shape)
    options = [
        "torch.zeros_like(x) + x", "x.view_as(x.contiguous()).clone()", "x.reshape_as(x)",
"x.unsqueeze(-1).squeeze(-1)",
        "x + torch.zeros(x.shape[-1], dtype=x.dtype)", "x + x.new_full((1,), 0.5)",
"x.unsqueeze(1).expand(-1, 2, *x.shape[1:]).sum(1)",
        "x.mul(2).sub(x)", "x.neg()",
        "torch.add(x, x.square().clamp(max=2), alpha=0.5)", "x.pow(2).clamp(max=3).sqrt()", "x.type_as(x).contiguous()",
    ]  # fmt: skip
    if rank == 2:
        options += [
            "x.mT.mT",
            "x.swapaxes(1, 2).contiguous().transpose(2, 1)",
            "x.movedim(1, 2).swapdims(1, 2)",
        ]
    if rank == 1:
        options += ["x.t().t()", "x[:, None].squeeze(1)", "x.unsqueeze(0).movedim(0, 1).flatten(1)"]
    if d % 2 == 0:
        options += [f"torch.stack(x.unflatten(-1, ({d // 2}, 2)).unbind(-1), -1).flatten(-2)"]
    return s.code(c.pick(options))


def outer(c: Choices, s: Scope) -> Made | None:
    """Outer products and weights that the network computes itself."""
    if not s.x.is_rows:
        return None
    d = s.x.features
    kind = c.pick(("outer", "hyper", "bilinear", "tensordot"))
    if kind == "hyper":
        e = c.pick((4, 3))
        made = s.code(
            f"torch.einsum('...d,...de->...e', x, m.h(x).unflatten(-1, ({d}, {e})))", s.x.with_features(e),
            h=nn.Linear(d, d * e),
        )  # fmt: skip
        made.block.told(blind=True)
        return made if d <= 12 else None
    if kind == "outer" and len(s.x.shape) == 1 and d <= 8:
        text = "x.unsqueeze(2) * x.tanh().unsqueeze(1)"
        return s.code(text, Spec("rows", (d, d), (s.x.fixed[0],) * 2))
    if kind == "tensordot":
        made = s.code("torch.tensordot(x, m.w, dims=1)", s.x.with_features(4), w=weight(d, 4))
        made.block.told(consumes={"w": (0,)})
        return made
    out = width(c)
    made = s.code("m.two(x, x.tanh())", s.x.with_features(out), two=nn.Bilinear(d, d, out))
    made.block.told(blind=True)
    return made if d <= 8 else None


def looked_up(c: Choices, s: Scope) -> Made | None:
    """Positions by index: lookups, gathers, the largest, one-hot codes."""
    if s.x.layout == "ids":
        return s.code("F.one_hot(x, 10).to(torch.float64)", rows_of(s.x.shape[0], 10, fixed=(True, True)))
    if not s.x.is_rows:
        return None
    n, d, rank = s.x.features, s.x.feature, len(s.x.shape)
    options = [
        f"x.index_select({d}, torch.arange({n}).flip(0))", f"x.topk({n}, dim=-1).values",
        "x.gather(-1, x.argsort(-1))",
    ]  # fmt: skip
    text = c.pick(options)
    if rank == 2 and s.x.shape[0] > 1 and c.chance():
        return s.code("x[torch.arange(x.shape[0]), x[..., 0].argmax(-1)]", rows_of(n, fixed=[s.x.fixed[1]]))
    return s.code(text, s.x.with_features(n, True))


def across_channels(c: Choices, s: Scope) -> Made | None:
    """Operators that see neighbouring channels or all of them, some of which nobody has a rule for."""
    if not s.x.is_map:
        return None
    across = ["F.local_response_norm({x}, 3)", "F.softmax({x}, 1)", "F.normalize({x}, dim=1)",
              "{x} - {x}.mean(1, keepdim=True)"]  # fmt: skip
    options = []
    if len(s.x.space) == 2:
        options += [
            "torch.fft.rfft2(x).real.mean((2, 3), keepdim=True) + x",
            "F.softmax(x.flatten(2), -1).view_as(x)",
        ]
    if len(s.x.space) == 1:
        options += ["x.unfold(2, 2, 1).mean(-1)" if s.x.space[0] > 2 else "x"]
    text = c.pick([*across, *options])
    if text in across:
        return reducing(c, s, text, s.x, 1)
    return s.code(text, s.x.with_space([s.x.space[0] - 1]) if "unfold(2" in text else s.x)


def attended_pool(c: Choices, s: Scope) -> Made | None:
    """A mean over tokens with learnt weights, a query of its own, or a gate over heads."""
    if not s.x.is_rows or len(s.x.shape) != 2 or not s.x.fixed[0] or prod(s.x.shape) > 200:
        return None
    d = s.x.features
    out = rows_of(d, fixed=[s.x.fixed[1]])
    kind = c.pick(("scores", "query", "several"))
    if kind == "scores":
        return s.code("(m.score(x).softmax(1) * x).sum(1)", out, score=nn.Linear(d, 1))
    if kind == "query":
        made = s.code("torch.einsum('bn,bnd->bd', (x @ m.q).softmax(-1), x)", out, q=weight(d))
        made.block.told(consumes={"q": (0,)})
        return made
    k = c.pick((2, 3))
    text = "m.score(x).softmax(1).transpose(1, 2) @ x"
    return s.code(text, rows_of(k, d, fixed=(False, s.x.fixed[1])), score=nn.Linear(d, k))


def recurrent(c: Choices, s: Scope) -> Made | None:
    """torch's own recurrent layers."""
    if not s.x.is_rows or len(s.x.shape) != 2 or not s.x.fixed[0] or s.x.shape[0] > 6:
        return None
    inner = c.pick((4, 6))
    kind = c.pick((nn.GRU, nn.LSTM))
    layer = kind(s.x.features, inner, batch_first=True, bidirectional=c.chance(3))
    out = inner * (2 if layer.bidirectional else 1)
    made = s.code("m.rnn(x)[0]", s.x.with_features(out), rnn=layer)
    made.block.told(blind=True)
    return made


def constants(c: Choices, s: Scope) -> Made | None:
    """Buffers and constants: fixed tables, masks, a mean to subtract."""
    if not s.x.is_rows and not s.x.is_map:
        return None
    n, back = s.x.features, len(s.x.shape) - s.x.feature
    tail = "".join(", None" for _ in range(back))
    made = s.code(f"(x - m.mean[:{tail}]) * m.std[:{tail}]" if back else "(x - m.mean) * m.std")
    made.block.register_buffer("mean", torch.randn(n))
    made.block.register_buffer("std", torch.rand(n) + 0.5, persistent=False)
    return made


MAKERS = {
    written: 2, folded_batch: 2, spelled: 2, outer: 1, looked_up: 1, across_channels: 1, attended_pool: 1, constants: 1,
    recurrent: 1,
}  # fmt: skip
