"""Kinds of layers and of models, each cut at random in every group and checked in double precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

from secateur.coupling import find_groups
from secateur.graph import trace
from secateur.surgery import cut_groups
from secateur.task import Inputs
from tests.zoo import random_plan, randomise

LEAST = 0.97
"""Share of the parameters in groups: all but what meets inputs and outputs."""


@dataclass(frozen=True)
class Kind:
    """A model, what it takes, and the share of its parameters that can be cut."""

    name: str
    build: Callable[[], nn.Module]
    inputs: Inputs
    share: float = LEAST


class Around(nn.Module):
    """A layer between two linear ones; ``forward`` is given."""

    def __init__(self, body: Callable[..., Any], layer: nn.Module, width: int, out: int) -> None:
        super().__init__()
        self.body, self.i, self.layer, self.o = body, nn.Linear(6, width), layer, nn.Linear(out, 3)

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Any:
        return self.body(self, *args, **kwargs)


def layers(*modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(*modules)


def convolutions(rank: int) -> list[Kind]:
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    back = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[rank - 1]
    x = torch.randn(2, 3, *(5,) * rank)

    def transposed(out: int, **options: int) -> Callable[[], nn.Module]:
        return lambda: layers(kind(3, 8, 1), back(8, out, 3, stride=2, **options), nn.ReLU(), kind(out, 2, 1))

    return [
        Kind(f"conv{rank}d", lambda: layers(kind(3, 8, 3), nn.ReLU(), kind(8, 12, 3, groups=4), kind(12, 2, 1)), x),
        Kind(f"conv{rank}d, same size",
             lambda: layers(kind(3, 8, 3, padding="same"), nn.ReLU(), kind(8, 2, 3, padding="same")), x),
        Kind(f"transposed conv{rank}d", transposed(12), x),
        Kind(f"transposed conv{rank}d, grouped", transposed(12, groups=4), x),
        Kind(f"transposed conv{rank}d, depthwise", transposed(16, groups=8, output_padding=1), x),
    ]  # fmt: skip


def attends(
    m: Around, x: Tensor, mask: Tensor | None = None, bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Both outputs of self-attention: what is read, and the weights."""
    h = m.i(x)
    out, weights = m.layer(h, h, h, key_padding_mask=mask, attn_mask=bias)
    return m.o(out), weights


def crosses(m: Around, x: Tensor, key: Tensor, value: Tensor) -> Tensor:
    out: Tensor = m.o(m.layer(m.i(x), key.sin(), value.cos(), need_weights=False)[0])
    return out


def attention(
    body: Callable[..., Any] = attends, first: bool = True, **options: Any
) -> Callable[[], nn.Module]:
    return lambda: Around(body, nn.MultiheadAttention(16, 4, batch_first=first, **options), 16, 16)


PADDED = torch.tensor([[False, False, False, True, True], [False] * 5])
CAUSAL = torch.triu(torch.full((5, 5), float("-inf")), 1)
TOKENS, TIME_FIRST = torch.randn(2, 5, 6), torch.randn(5, 2, 6)

ATTENTION = [
    Kind("attention", attention(), TOKENS),
    Kind("attention, time first", attention(first=False), TIME_FIRST),
    Kind("attention, padded", attention(), (TOKENS, PADDED)),
    Kind("attention, causal", attention(first=False), {"x": TIME_FIRST, "bias": CAUSAL}),
    Kind("attention, both masks", attention(), (TOKENS, PADDED, CAUSAL.bool())),
    Kind("attention, keys and values of other widths", attention(crosses, kdim=8, vdim=10),
         (TOKENS, torch.randn(2, 7, 8), torch.randn(2, 7, 10)), 0.5),
    Kind("attention, learnt keys", attention(add_bias_kv=True, add_zero_attn=True), (TOKENS, PADDED)),
    Kind("attention, no bias", attention(bias=False), TOKENS),
]  # fmt: skip


def translates(m: Around, x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
    causal = nn.Transformer.generate_square_subsequent_mask(4)
    out: Tensor = m.o(
        m.layer(m.i(x), m.i(y), tgt_mask=causal, src_key_padding_mask=mask, memory_key_padding_mask=mask)
    )
    return out


TRANSFORMERS = [
    Kind("transformer, masked",
         lambda: Around(translates, nn.Transformer(16, 4, 1, 2, 32, batch_first=True), 16, 16),
         (TOKENS, TOKENS[:, :4], PADDED)),
    Kind("transformer, norms first",
         lambda: Around(translates, nn.Transformer(16, 4, 2, 1, 32, norm_first=True), 16, 16),
         (TIME_FIRST, TIME_FIRST[:4])),
    Kind("encoder",
         lambda: layers(nn.Linear(6, 16), nn.TransformerEncoder(
             nn.TransformerEncoderLayer(16, 4, 32, activation="gelu", batch_first=True), 2), nn.Linear(16, 3)), TOKENS),
]  # fmt: skip


class State(nn.Module):
    """Buffers of all sorts, a dict and a nested one as output."""

    def __init__(self) -> None:
        super().__init__()
        self.i, self.o = nn.Linear(6, 16), nn.Linear(16, 3)
        self.register_buffer("position", torch.randn(1, 5, 16))
        self.register_buffer("transient", torch.randn(16), persistent=False)
        self.register_buffer("rotation", torch.polar(torch.ones(5, 8), torch.randn(5, 8)))
        self.bare = torch.randn(16)

    def forward(self, x: Tensor) -> dict[str, Any]:
        h = (self.i(x) + self.position) * self.transient + self.bare
        turned = torch.view_as_real(torch.view_as_complex(h.unflatten(-1, (8, 2))) * self.rotation).flatten(
            -2
        )
        return {"out": self.o(turned), "further": {"mean": self.o(self.i(x)).mean(1)}}


class Tied(nn.Module):
    """One table in and out, and one block used twice under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = nn.Embedding(11, 16), nn.Linear(16, 11, bias=False)
        self.out.weight = self.table.weight
        self.block = layers(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 16))
        self.again = self.block

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens)
        x = x + self.block(x)
        out: Tensor = self.out(x + self.again(x))
        return out


class Several(nn.Module):
    """Inputs by keyword, one of them left out; outputs of several kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.o, self.p = (
            nn.Linear(6, 16),
            nn.Linear(4, 16),
            nn.Linear(16, 3),
            nn.Linear(16, 2),
        )

    def forward(
        self, x: Tensor, *, y: Tensor, scale: Tensor | None = None, shift: Tensor | None = None
    ) -> Any:
        h = self.a(x) + self.b(y)
        h = h if scale is None else h * scale
        h = (h if shift is None else h + shift).relu()
        return self.o(h), [self.p(h), x], None


MODELS = [
    Kind("buffers, dict outputs", State, TOKENS, 0.95),
    Kind("tied and shared", Tied, torch.randint(0, 11, (2, 5))),
    Kind("several inputs and outputs", Several,
         {"x": torch.randn(2, 6), "y": torch.randn(2, 4), "scale": torch.randn(2, 1)}),
    Kind("instance and group norms",
         lambda: layers(nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8, affine=True, track_running_stats=True),
                        nn.Conv2d(8, 12, 1), nn.GroupNorm(3, 12), nn.Conv2d(12, 3, 1)), torch.randn(2, 3, 7, 7)),
]  # fmt: skip

KINDS = [k for rank in (1, 2, 3) for k in convolutions(rank)] + ATTENTION + TRANSFORMERS + MODELS


@pytest.mark.parametrize("kind", KINDS, ids=[k.name for k in KINDS])
def test_cut_at_random(kind: Kind) -> None:
    model = kind.build().eval()
    randomise(model)
    groups = find_groups(trace(model, kind.inputs))
    assert groups.prunable_share >= kind.share and not groups.unknown
    for seed in range(2):
        result = cut_groups(groups, random_plan(groups, seed), dtype=torch.float64)
        assert result.verification.max_relative_error <= 1e-10


NORMED: dict[str, Callable[[nn.Module], nn.Module]] = {
    "weight norm, hooks": weight_norm,
    "weight norm of everything": lambda m: weight_norm(m, dim=None),
    "weight norm": parametrizations.weight_norm,
    "spectral norm, hooks": spectral_norm,
    "spectral norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
}


class Twice(nn.Module):
    """The layer in the middle is used twice."""

    def __init__(self, i: nn.Module, same: nn.Module, o: nn.Module) -> None:
        super().__init__()
        self.i, self.same, self.o = i, same, o

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.o(self.same(self.same(self.i(x)).relu()))
        return out


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize("norm", NORMED.values(), ids=NORMED.keys())
@pytest.mark.parametrize("conv", [False, True], ids=["linear", "conv"])
def test_a_normed_weight_is_cut_under_its_own_name(
    norm: Callable[[nn.Module], nn.Module], conv: bool
) -> None:
    if conv:
        model = Twice(nn.Conv2d(3, 12, 3), norm(nn.Conv2d(12, 12, 1)), nn.Conv2d(12, 3, 1))
    else:
        model = Twice(nn.Linear(6, 12), norm(nn.Linear(12, 12)), nn.Linear(12, 3))
    x = torch.randn(2, 3, 5, 5) if conv else torch.randn(2, 6)
    model.eval()(x)  # hooks compute the weight when the layer is called
    graph = trace(model, x)
    groups = find_groups(graph)
    assert set(graph.folded) == {"same.weight"}
    assert {m.param for g in groups for m in g.members} == {
        "i.weight",
        "i.bias",
        "same.weight",
        "same.bias",
        "o.weight",
    }
    torch.testing.assert_close(graph.tensor("same.weight"), model.same.weight, rtol=1e-5, atol=1e-6)
    result = cut_groups(groups, random_plan(groups, 1), dtype=torch.float64)
    assert result.verification.max_relative_error <= 1e-10


def test_a_mask_of_weights_is_cut_with_them() -> None:
    """Pruned by torch's own tool: the weight times a mask."""
    from torch.nn.utils import prune

    model = layers(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))
    prune.random_unstructured(model[0], "weight", amount=0.5)
    groups = find_groups(trace(model.eval(), torch.randn(2, 6)))
    assert {f"{m.param}:{m.axis}" for g in groups for m in g.members} == {
        "0.weight_orig:0", "0.weight_mask:0", "0.bias:0", "2.weight:1",
    }  # fmt: skip
    assert cut_groups(groups, random_plan(groups, 1)).verification.max_relative_error < 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays(dtype: torch.dtype) -> None:
    model = layers(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.Flatten(2),
        nn.LayerNorm(9), nn.Linear(9, 3),
    )  # fmt: skip
    randomise(model)
    model = model.to(dtype).eval()
    groups = find_groups(trace(model, torch.randn(2, 3, 7, 7, dtype=dtype)))
    for check, most in ((None, 0.02), (torch.float64, 1e-10)):
        result = cut_groups(groups, random_plan(groups, 1), dtype=check)
        assert result.verification.max_relative_error <= most
        assert {t.dtype for t in result.module.parameters()} == {dtype}


def test_a_model_in_training_stays_in_training() -> None:
    model = layers(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(), nn.ReLU(), nn.Conv2d(8, 3, 1))
    model.train()
    model[1].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    groups = find_groups(trace(model, torch.randn(2, 3, 7, 7)))
    result = cut_groups(groups, random_plan(groups, 1), dtype=torch.float64)
    assert result.verification.max_relative_error <= 1e-10
    assert [m.training for m in model] == [True, False, True, True, True]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
