"""Which groups may choose anew in each context: found by hand for the zoo, and refused where heads share anything."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.coupling import Across, Groups, Inside, find_groups
from secateur.graph import trace
from secateur.planning import allocate
from secateur.scoring import Magnitude, score
from secateur.surgery import cut_groups
from tests.zoo import ready

DIM, HEADS, INNER = 12, 3, 4

# {network: {free group: (its context, contexts, units)}}
FREE = {
    "plain": {},
    "tied_head": {},
    "gated": {},
    "squeeze_excite": {},
    "depthwise": {"dw.weight:0": ("stem.weight:0", 8, 2)},
    "grouped": {
        "reduce.weight:0": ("reduce.weight:0#2", 4, 4),
        "conv.weight:0": ("reduce.weight:0#2", 4, 8),
    },
    "group_norm": {"conv1.weight:0#2": ("conv1.weight:0", 4, 4)},
    "vit_unbind": {"qkv.weight:0#2": ("qkv.weight:0", 4, 4)},
    "vit_chunk": {"qkv.weight:0#2": ("qkv.weight:0", 4, 4), "qkv.weight:0#3": ("qkv.weight:0", 4, 4)},
    "separate": {"q.weight:0#2": ("q.weight:0", 4, 4), "v.weight:0": ("q.weight:0", 4, 4)},
    # A key's dimension meets the queries of all its repeats; a repeat is free within its key's head.
    "gqa_enable": {
        "q.weight:0": ("q.weight:0#2", 2, 4),
        "q.weight:0#3": ("q.weight:0#2", 2, 2),
        "v.weight:0": ("q.weight:0#2", 2, 4),
    },
}


@pytest.mark.parametrize("name", FREE)
def test_free_groups_of_the_zoo(name: str) -> None:
    contexts = ready(name)[1].contexts
    found = {n: (c.within.name, *c.shape) for n, c in contexts.items()}
    assert found == FREE[name]


def test_positions_of_heads_and_of_blocks() -> None:
    contexts = ready("grouped")[1].contexts["reduce.weight:0"]
    (inside,) = contexts.members["reduce.weight"]
    assert isinstance(inside, Inside) and inside.axis == 0
    assert inside.positions.reshape(4, 4).tolist() == [[4 * g + i for i in range(4)] for g in range(4)]
    (across,) = contexts.members["conv.weight"]
    assert isinstance(across, Across) and (across.axis, across.over) == (1, 0)
    assert across.rows.tolist() == [[8 * g + i for i in range(8)] for g in range(4)]
    assert across.positions.tolist() == [[0], [1], [2], [3]]


def test_repeats_of_a_cell_in_a_fused_projection() -> None:
    (inside,) = ready("vit_unbind")[1].contexts["qkv.weight:0#2"].members["qkv.weight"]
    # Query, key and value, each 16 wide.
    assert inside.positions[1, 2].tolist() == [6, 22, 38]


class Heads(nn.Module):
    """Separate projections; what is done to queries, keys, values and scores is given."""

    def __init__(self, keys: int = HEADS) -> None:
        super().__init__()
        self.keys = keys
        self.q = nn.Linear(DIM, HEADS * INNER)
        self.k, self.v = nn.Linear(DIM, keys * INNER), nn.Linear(DIM, keys * INNER)
        self.o = nn.Linear(HEADS * INNER, 5)
        self.extra = nn.Parameter(torch.rand(HEADS, HEADS))
        self.scale = nn.Parameter(torch.rand(INNER))
        self.norm = nn.LayerNorm(INNER)
        self.register_buffer("cos", torch.rand(6, INNER))

    def turned(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return q, k, v

    def mixed(self, y: Tensor) -> Tensor:
        return y

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = (p(x).view(b, n, -1, INNER).transpose(1, 2) for p in (self.q, self.k, self.v))
        q, k, v = self.turned(q, k, v)
        y = (q @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.o(self.mixed(y).transpose(1, 2).reshape(b, n, -1))


class SharedNorm(Heads):
    def turned(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.norm(q), k, v


class NormWithoutWeight(Heads):
    def turned(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return F.layer_norm(q, (INNER,)), F.normalize(k, dim=-1), v


class Rotary(Heads):
    def turned(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        def rotated(t: Tensor) -> Tensor:
            a, b = t.chunk(2, -1)
            return t * self.cos + torch.cat([-b, a], -1) * self.cos.flip(0)

        return rotated(q), rotated(k), v


class SharedValueScale(Heads):
    def mixed(self, y: Tensor) -> Tensor:
        return y * self.scale


class SumOverHeads(Heads):
    def mixed(self, y: Tensor) -> Tensor:
        return y + y.mean(1, keepdim=True)


class SoftmaxOverHeads(Heads):
    def mixed(self, y: Tensor) -> Tensor:
        return y.softmax(1)


class MixedHeads(Heads):
    """A residual ties the heads that go in to those that come out, so that labels alone see nothing wrong."""

    def mixed(self, y: Tensor) -> Tensor:
        return y + torch.einsum("bhne,hg->bgne", y, self.extra)


class MixedHeadsByMatmul(Heads):
    def mixed(self, y: Tensor) -> Tensor:
        return y + (y.transpose(1, -1) @ self.extra).transpose(1, -1)


class DimensionsOutside(Heads):
    """The dimension is the outer factor: each head keeping its own would not keep the order of the axis."""

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = (p(x).view(b, n, INNER, HEADS).permute(0, 3, 1, 2) for p in (self.q, self.k, self.v))
        y = (q @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.o(y.permute(0, 2, 3, 1).reshape(b, n, -1))


class Neighbours(Heads):
    """What stands beside a dimension of the values matters: each head keeping its own would change that."""

    def mixed(self, y: Tensor) -> Tensor:
        return F.local_response_norm(y.movedim(-1, 1), 3).movedim(1, -1)


class OneKey(Heads):
    def __init__(self) -> None:
        super().__init__(keys=1)


def groups_of(model: nn.Module) -> Groups:
    return find_groups(trace(model.eval(), torch.randn(2, 6, DIM)))


def free(model: nn.Module) -> set[str]:
    """Which projections have a dimension that is free within heads."""
    contexts = groups_of(model).contexts
    assert all(c.group.units == INNER for c in contexts.values())
    return {param.split(".")[0] for c in contexts.values() for param in c.members} - {"o"}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Heads, {"q", "k", "v"}),
        (NormWithoutWeight, {"q", "k", "v"}),
        (SharedNorm, {"v"}),
        (Rotary, {"v"}),
        (SharedValueScale, {"q", "k"}),
        (SumOverHeads, {"q", "k"}),
        (SoftmaxOverHeads, {"q", "k"}),
        (MixedHeads, {"q", "k"}),
        (MixedHeadsByMatmul, {"q", "k"}),
        (DimensionsOutside, set()),
        (Neighbours, {"q", "k"}),
        (OneKey, set()),
    ],
)
def test_what_heads_share_is_not_free(kind: type[nn.Module], expected: set[str]) -> None:
    assert free(kind()) == expected


def test_units_that_an_operator_reads_beside_their_neighbours() -> None:
    groups = groups_of(Neighbours())
    assert groups.ordered == {
        g.name for g in groups if "v.weight" in {m.param for m in g.members} and g.units == INNER
    }
    assert len(groups.ordered) == 1
    assert not groups_of(Heads()).ordered


class SameWidth(nn.Module):
    """Two grouped convolutions in a row, tied by a residual: inputs and outputs of a group are one group."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 1)
        self.one = nn.Conv2d(12, 12, 3, padding=1, groups=3)
        self.fc = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.fc((x + self.one(x)).relu().mean((2, 3)))


def test_channels_are_free_in_a_group_but_groups_are_not_free_in_a_channel() -> None:
    groups = find_groups(trace(SameWidth().eval(), torch.randn(2, 3, 4, 4)))
    ((name, contexts),) = groups.contexts.items()
    assert contexts.shape == (3, 4)
    kinds = [type(p) for p in contexts.members["one.weight"]]
    assert kinds == [Inside, Across] and "one.weight" in {m.param for m in groups[name].members}


def test_pairs_are_positions_with_their_atoms() -> None:
    groups = ready("gqa_enable")[1]
    axis = groups.coupling.state_axes["q.weight"][0]
    where, atoms = groups.coupling.pairs(axis)
    by_hand = [
        (i, a)
        for i, label in enumerate(groups.coupling.classes(axis).tolist())
        for a in groups.coupling.monomial(label)
    ]
    assert sorted(zip(where.tolist(), atoms.tolist(), strict=True)) == sorted(by_hand)


class Gated(nn.Module):
    """The channels of a grouped convolution, each gated by the means of its neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 24, 1), nn.Conv2d(24, 24, 3, padding=1, groups=3)
        self.gate, self.fc = nn.Conv1d(1, 1, 3, padding=1, bias=False), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.two(self.one(x).relu())
        gate = self.gate(x.mean((2, 3)).unsqueeze(1)).sigmoid().transpose(1, 2).unsqueeze(-1)
        return self.fc((x * gate).mean((2, 3)))


def test_channels_that_a_filter_slides_over_keep_their_neighbours() -> None:
    """Chosen anew in each group of the convolution, the gate would see others beside each other."""
    torch.manual_seed(0)
    model, x = Gated().eval(), torch.randn(2, 3, 6, 6)
    groups = find_groups(trace(model, x))
    (gated,) = (g.name for g in groups if "fc.weight" in {m.param for m in g.members} and g.units == 8)
    assert gated in groups.ordered and gated not in groups.contexts
    plan = allocate(score(model, groups, Magnitude()), keep=0.5)
    assert cut_groups(groups, plan).verification.max_relative_error < 1e-5


class Numbered(nn.Module):
    """Features that the program multiplies with their own number."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.b(x * torch.arange(x.shape[-1], dtype=x.dtype))


def test_units_that_the_program_numbers_are_not_alike() -> None:
    groups = find_groups(trace(Numbered().eval(), torch.randn(2, 4)))
    assert groups.ordered == {"a.weight:0"}


class Narrowed(nn.Module):
    """Flattened maps, of which a slice takes the end of one channel and the beginning of another."""

    def __init__(self, start: int, length: int) -> None:
        super().__init__()
        self.a, self.b, self.start = nn.Conv1d(2, 4, 1), nn.Linear(length, 3), start

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).flatten(1).narrow(1, self.start, self.b.in_features))


@pytest.mark.parametrize(("start", "length", "ordered"), [(4, 12, True), (5, 10, False)])
def test_units_of_which_a_slice_takes_other_places_are_not_alike(
    start: int, length: int, ordered: bool
) -> None:
    """Of channels 0 and 3 one place of five is taken, the last of one and the first of the other; or none at all."""
    groups = find_groups(trace(Narrowed(start, length).eval(), torch.randn(2, 2, 5)))
    assert [g.units for g in groups] == [2, 2]
    assert groups.ordered == ({groups.groups[0].name} if ordered else frozenset())


class Cycles(nn.Module):
    """Units that a list ties three by three: each list of three is one unit, its places in an order of their own."""

    def __init__(self, places: list[int]) -> None:
        super().__init__()
        self.a, self.b, self.places = nn.Linear(4, 6), nn.Linear(6, 3), places

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.b(x + x[:, self.places].tanh())


@pytest.mark.parametrize(
    ("places", "ordered"),
    [([1, 2, 0, 4, 5, 3], False), ([1, 2, 0, 5, 3, 4], True), ([5, 4, 3, 2, 1, 0], False)],
)
def test_units_that_a_list_takes_in_another_order_are_not_alike(places: list[int], ordered: bool) -> None:
    groups = find_groups(trace(Cycles(places).eval(), torch.randn(2, 4)))
    assert len(groups) == 1
    assert groups.ordered == ({groups.groups[0].name} if ordered else frozenset())
