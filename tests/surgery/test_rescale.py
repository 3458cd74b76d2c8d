"""Folding a factor into the weights that write an operand: the usual ways to write a query, and what stays alone."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from secateur.graph import Graph, fetch, op_name, trace
from secateur.surgery import Rescale, fold, scale_writers
from tests.zoo import ready

DIM, HEADS, INNER = 12, 3, 4
FACTOR = 0.5
ATTENTION = "aten::scaled_dot_product_attention"


class Attention(nn.Module):
    """Separate projections; how queries, keys and values are made of them is given."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(DIM, HEADS * INNER) for _ in range(3))
        self.qkv = nn.Linear(DIM, 3 * HEADS * INNER)
        self.norm, self.rms = nn.LayerNorm(INNER), nn.RMSNorm(INNER)
        self.o = nn.Linear(HEADS * INNER, 5)
        self.drop = nn.Dropout(0.3)
        self.temperature = nn.Parameter(torch.rand(HEADS, 1, 1) + 0.5)
        self.register_buffer("cos", torch.rand(6, INNER))
        self.register_buffer("sin", torch.rand(6, INNER))
        for p in self.parameters():
            nn.init.normal_(p, 0.3, 0.5)

    def heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], HEADS, INNER).transpose(1, 2)

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.heads(self.q(x)), self.heads(self.k(x)), self.heads(self.v(x))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.parts(x)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.o(y.transpose(1, 2).reshape(*x.shape[:2], -1))


class Chunked(Attention):
    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.heads(q), self.heads(k), self.heads(v)


class Unbound(Attention):
    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return tuple(self.qkv(x).reshape(*x.shape[:2], 3, HEADS, INNER).permute(2, 0, 3, 1, 4).unbind(0))


class HeadsFirst(Attention):
    """Each head's query, key and value stand together, as in GPT-NeoX."""

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        fused = self.qkv(x).view(*x.shape[:2], HEADS, 3 * INNER).transpose(1, 2)
        return fused[..., :INNER], fused[..., INNER : 2 * INNER], fused[..., 2 * INNER :]


class BiasOfThree(Attention):
    """BEiT's way: the bias is put together from two parameters and zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.q_bias, self.v_bias = nn.Parameter(torch.rand(12)), nn.Parameter(torch.rand(12))
        self.register_buffer("k_bias", torch.zeros(12))

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        bias = torch.cat((self.q_bias, self.k_bias, self.v_bias))
        q, k, v = F.linear(x, self.qkv.weight, bias).split(12, -1)
        return self.heads(q), self.heads(k), self.heads(v)


class Rotary(Attention):
    def turned(self, t: Tensor) -> Tensor:
        a, b = t.chunk(2, -1)
        return t * self.cos + torch.cat([-b, a], -1) * self.sin

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = super().parts(x)
        return self.turned(q), self.turned(k), v


class Normed(Attention):
    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = super().parts(x)
        return self.drop(self.norm(q)), self.rms(k), v


class NormedByHand(Attention):
    """As Llama's family writes it: the weight is a plain product."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(INNER) + 0.5)

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = super().parts(x)
        return q * torch.rsqrt(q.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight, k, v


class NormWithoutWeight(Attention):
    """The query cannot take a factor, the key can."""

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = super().parts(x)
        return F.layer_norm(q, (INNER,)), k, v


class Temperature(Attention):
    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = super().parts(x)
        return F.normalize(q, dim=-1) * self.temperature, k, v


class Positions(Attention):
    """An offset that the program adds is scaled with the projection."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.rand(HEADS, 1, INNER))

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = super().parts(x)
        return q + self.offset, k, v


class Convolved(Attention):
    """Queries from a convolution on the map, as in CvT."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(DIM, HEADS * INNER, 3, padding=1)

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        _, k, v = super().parts(x)
        return self.heads(self.conv(x.transpose(1, 2)).transpose(1, 2)), k, v


class Repeated(Attention):
    """One weight for three layers, as in ALBERT."""

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            y = F.scaled_dot_product_attention(*self.parts(x)).transpose(1, 2).reshape(*x.shape[:2], -1)
            x = x + y
        return self.o(x)


class QueryIsKey(Attention):
    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, _, v = super().parts(x)
        return q, q, v


class ProjectionReadTwice(Attention):
    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = super().parts(x)
        return q, k, v + q


class BothReadTwice(Attention):
    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = super().parts(x)
        return q, k, v + q + k


class NoWeights(Attention):
    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = super().parts(x)
        return q + 1.0, k.relu() + 1.0, v


class Clamped(Attention):
    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = super().parts(x)
        return q.clamp(-1, 1), k.tanh(), v


def traced(model: nn.Module) -> Graph:
    return trace(model.eval(), torch.randn(2, 6, DIM))


def calls(graph: Graph, kind: str = ATTENTION) -> list[fx.Node]:
    return [n for n in graph.nodes if n.op == "call_function" and op_name(n) == kind]


def scaled(graph: Graph, factors: dict[str, tuple[int, Tensor]]) -> fx.GraphModule:
    """A copy of the program with parameters multiplied along one axis."""
    module = copy.deepcopy(graph.module)
    with torch.no_grad():
        for name, (axis, factor) in factors.items():
            weight = module.get_parameter(name)
            weight.mul_(factor.to(weight.dtype).reshape(-1, *[1] * (weight.dim() - 1 - axis)))
    return module


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        (Attention, {"q.weight", "q.bias"}),
        (Chunked, {"qkv.weight", "qkv.bias"}),
        (Unbound, {"qkv.weight", "qkv.bias"}),
        (HeadsFirst, {"qkv.weight", "qkv.bias"}),
        (BiasOfThree, {"qkv.weight", "q_bias"}),
        (Rotary, {"q.weight", "q.bias"}),
        (Normed, {"norm.weight", "norm.bias"}),
        (NormedByHand, {"weight"}),
        (NormWithoutWeight, {"k.weight", "k.bias"}),
        (Temperature, {"temperature"}),
        (Positions, {"q.weight", "q.bias", "offset"}),
        (Convolved, {"conv.weight", "conv.bias"}),
        (ProjectionReadTwice, {"k.weight", "k.bias"}),
        (Repeated, {"q.weight", "q.bias"}),
    ],
)
def test_the_factor_goes_into_what_writes_the_query(kind: type[nn.Module], parameters: set[str]) -> None:
    """Weights times the factor, and a scale divided by it: the same function."""
    graph = traced(kind())
    nodes = calls(graph)
    folds = fold(graph.module, [Rescale(n, ("query", "key"), FACTOR) for n in nodes])
    assert not folds.refused and set(folds.scaled) == parameters
    module = scaled(graph, {n: (s.axis, s.factors) for n, s in folds.scaled.items()})
    for node in calls(Graph(module, graph.args, {}, 2, True, "")):
        node.kwargs = {**node.kwargs, "scale": 1.0 / math.sqrt(INNER) / FACTOR}
    module.recompile()
    with torch.no_grad():
        torch.testing.assert_close(module(*graph.args), graph.module(*graph.args), rtol=1e-5, atol=1e-6)
        for node in calls(Graph(module, graph.args, {}, 2, True, "")):
            node.kwargs = {**node.kwargs, "scale": 1.0 / math.sqrt(INNER)}
        module.recompile()
        changed = (module(*graph.args) - graph.module(*graph.args)).abs().max()
    assert changed > 1e-3  # so that the comparison could have failed


@pytest.mark.parametrize("kind", [QueryIsKey, BothReadTwice, Clamped, NoWeights])
def test_what_cannot_take_a_factor_is_left_alone_and_says_why(kind: type[nn.Module]) -> None:
    graph = traced(kind())
    (node,) = calls(graph)
    folds = fold(graph.module, [Rescale(node, ("query", "key"), FACTOR)])
    assert not folds.scaled and not folds.done and not folds.fields
    reason = folds.refused[node]
    assert "no weight writes" in reason or "read by" in reason or "operand alone" in reason


def test_rows_of_a_fused_projection() -> None:
    rows = {}
    for kind in (Chunked, Unbound, HeadsFirst):
        graph = traced(kind())
        found = scale_writers(graph.module, calls(graph)[0], "query", FACTOR)
        assert found is not None
        axis, where, factor = found["qkv.weight"]
        assert (axis, factor) == (0, FACTOR) and torch.equal(where, found["qkv.bias"][1])
        rows[kind] = where.nonzero().reshape(-1).tolist()
    assert rows[Chunked] == rows[Unbound] == list(range(12))
    assert rows[HeadsFirst] == [0, 1, 2, 3, 12, 13, 14, 15, 24, 25, 26, 27]


def test_keys_and_values_can_be_asked_for_too() -> None:
    graph = traced(Chunked())
    for operand, start in (("key", 12), ("query", 0)):
        found = scale_writers(graph.module, calls(graph)[0], operand, FACTOR)
        assert found is not None
        assert found["qkv.weight"][1].nonzero().reshape(-1).tolist() == list(range(start, start + 12))
    assert scale_writers(traced(Clamped()).module, calls(traced(Clamped()))[0], "query", FACTOR) is None


def test_a_scale_by_hand() -> None:
    """``scores / sqrt(head size)``: the scores are a product of the query's and the key's weights."""
    for name in ("gqa_repeat", "separate"):
        graph = ready(name)[1].graph
        node = next(n for n in graph.nodes if op_name(n) in ("aten::div", "aten::mul"))
        assert scale_writers(graph.module, node, "self", FACTOR)["q.weight"][1].all()  # type: ignore[index]


class Two(nn.Module):
    """One projection of queries for two attentions whose heads are of different size."""

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(DIM, 12)
        self.k1, self.k2 = nn.Linear(DIM, 12), nn.Linear(DIM, 12)

    def forward(self, x: Tensor) -> Tensor:
        q = self.q(x)

        def heads(t: Tensor, inner: int) -> Tensor:
            return t.view(*t.shape[:2], -1, inner).transpose(1, 2)

        one = F.scaled_dot_product_attention(*(heads(t, 4) for t in (q, self.k1(x), x)))
        two = F.scaled_dot_product_attention(*(heads(t, 6) for t in (q, self.k2(x), x)))
        return one.transpose(1, 2).reshape(x.shape) + two.transpose(1, 2).reshape(x.shape)


def test_a_projection_shared_by_two_attentions() -> None:
    graph = traced(Two())
    one, two = calls(graph)
    assert scale_writers(graph.module, one, "query", FACTOR) is None
    equal = fold(graph.module, [Rescale(n, ("query",), FACTOR) for n in (one, two)])
    assert set(equal.scaled) == {"q.weight", "q.bias"} and not equal.refused
    different = fold(graph.module, [Rescale(one, ("query",), 0.5), Rescale(two, ("query",), 0.25)])
    assert not different.scaled and set(different.refused) == {one, two}
    assert "shared with a call of another scale" in different.refused[one]
    by_keys = fold(graph.module, [Rescale(one, ("query", "key"), 0.5), Rescale(two, ("query", "key"), 0.25)])
    assert set(by_keys.scaled) == {"k1.weight", "k1.bias", "k2.weight", "k2.bias"} and not by_keys.refused


def test_nothing_to_do_for_a_factor_of_one() -> None:
    graph = traced(Attention())
    folds = fold(graph.module, [Rescale(calls(graph)[0], ("query",), 1.0)])
    assert not folds.scaled and not folds.refused and not folds.done


def test_fields_say_where_values_differ() -> None:
    graph = traced(Chunked())
    node = calls(graph)[0]
    folds = fold(graph.module, [Rescale(node, ("query",), FACTOR)])
    query = node.args[0]
    assert isinstance(query, fx.Node)
    assert (folds.fields[query] == FACTOR).all()
    key = node.args[1]
    assert key not in folds.fields and node not in folds.fields
    linear = calls(graph, "aten::linear")[0]
    assert folds.fields[linear].shape == (2, 6, 36)
    assert folds.fields[linear][0, 0].tolist() == [FACTOR] * 12 + [1.0] * 24


def test_on_the_meta_device() -> None:
    """Only shapes are needed."""
    with torch.device("meta"):
        model = Rotary().eval()
        graph = trace(model, torch.empty(2, 6, DIM))
    assert fetch(graph.module, "q.weight").is_meta
    assert set(scale_writers(graph.module, calls(graph)[0], "query", FACTOR) or {}) == {"q.weight", "q.bias"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_products_keep_the_type(dtype: torch.dtype) -> None:
    folds = fold((graph := traced(Attention())).module, [Rescale(calls(graph)[0], ("query",), 0.7)])
    weight = torch.randn(12, 12, dtype=torch.float64)
    found = folds.scaled["q.weight"].apply(weight.to(dtype))
    assert found.dtype == dtype
    exact = weight.to(dtype).double() * 0.7
    assert (found.double() - exact).abs().max() <= torch.finfo(dtype).eps * exact.abs().max()
