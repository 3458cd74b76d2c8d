"""Tiny networks with residual branches and repeated blocks, and what can be removed whole from each, counted by hand.

Blocks are written as ``{name: "kind parameters"}``, followed for a block by the branches it is made of, with a ``=``
before them where removing these is all there is to it. What cannot go stands in ``locked``, with words of the reason.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.coupling import Block, Groups, find_groups
from secateur.graph import trace
from secateur.task import Inputs
from tests.zoo.case import images, randomise


@dataclass(frozen=True)
class BlockCase:
    """A network and its blocks.

    Args:
        name: of the case.
        build: makes the network.
        inputs: example inputs for a batch size.
        blocks: what can be removed whole, see the module's docstring.
        locked: words of the reason, for each candidate that cannot go.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[int], Inputs]
    blocks: Mapping[str, str]
    locked: Mapping[str, str] = field(default_factory=dict)

    def model(self) -> nn.Module:
        """The network with every tensor random."""
        torch.manual_seed(0)
        model = self.build().eval()
        randomise(model)
        return model

    def found(self, model: nn.Module | None = None) -> Groups:
        """The groups of the network."""
        return find_groups(trace(self.model() if model is None else model, self.inputs(2)))


def noted(block: Block) -> str:
    """A block in the notation of the tables."""
    made = f" {'=' if block.whole else ''}{' '.join(block.branches)}" if block.branches else ""
    return f"{block.kind} {block.parameters}{made}"


def rows(width: int = 6, length: int = 5) -> Callable[[int], Tensor]:
    """Random sequences ``[batch, length, width]``."""
    return lambda batch: torch.randn(batch, length, width, generator=torch.Generator().manual_seed(2))


class Mlp(nn.Module):
    """Two layers, 8 to 12 to 8: 108 + 104 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(8, 12), nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Attention(nn.Module):
    """Two heads of four, by hand: 4 · (64 + 8) parameters; on request it returns its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(8, 8) for _ in range(4))

    def forward(
        self, x: Tensor, mask: Tensor | None = None, memory: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        source = x if memory is None else memory
        q, k, v = (
            m(t).unflatten(-1, (2, 4)).transpose(1, 2)
            for m, t in ((self.q, x), (self.k, source), (self.v, source))
        )
        scores = q @ k.transpose(2, 3) / 2
        weights = (scores if mask is None else scores + mask).softmax(-1)
        return self.o((weights @ v).transpose(1, 2).flatten(2)), weights


class Layers(nn.Module):
    """A stem, a list of layers and a head."""

    def __init__(self, make: Callable[[], nn.Module], number: int = 2) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(6, 8), nn.Linear(8, 3)
        self.layers = nn.ModuleList(make() for _ in range(number))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


class PreNorm(nn.Module):
    """``x + f(norm(x))``."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mlp = nn.LayerNorm(8), Mlp()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm(x))


class TwoBranches(nn.Module):
    """Attention, then MLP, each with its norm, scaled and subtracted to vary the theme."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.attn, self.mlp = Attention(), Mlp()
        self.gamma = nn.Parameter(torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.add(x, self.gamma * self.attn(self.norm1(x))[0], alpha=0.5)
        return x - self.mlp(self.norm2(x))


class PostNorm(nn.Module):
    """``norm(x + f(x))``, twice."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.attn, self.mlp = Attention(), Mlp()

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.attn(x)[0])
        return self.norm2(self.mlp(x) + x)


class Parallel(nn.Module):
    """Attention and MLP read one norm and are added together; dropout between the sums."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attn, self.mlp, self.drop = nn.LayerNorm(8), Attention(), Mlp(), nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return self.drop(self.attn(y)[0] + self.mlp(y)) + x


class Gated(nn.Module):
    """``x * (1 + f(x))``: without ``f`` it is ``x``."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + torch.tanh(self.fc(x)))


class Shared(nn.Module):
    """One layer, used three times."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.head = nn.Linear(6, 8), PreNorm(), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(3):
            x = self.block(x)
        return self.head(x)


class TiedToHead(nn.Module):
    """The branch's second matrix is the head's as well."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fc1, self.fc2, self.head = (nn.Linear(n, 8) for n in (6, 8, 8, 8))
        self.head.weight = self.fc2.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.fc2(F.relu(self.fc1(x))))


class Weights(nn.Module):
    """Returns the attention weights of its first layer beside the result."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = nn.Linear(6, 8), Attention(), Attention()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        y, weights = self.one(x)
        x = x + y
        return x + self.two(x)[0], weights


class Decoder(nn.Module):
    """Layers that all read a mask and what an encoder computed."""

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.own, self.cross = Attention(), Attention()
            self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)

        def forward(self, x: Tensor, mask: Tensor, memory: Tensor) -> Tensor:
            x = self.norm1(x + self.own(x, mask)[0])
            return self.norm2(x + self.cross(x, memory=memory)[0])

    def __init__(self) -> None:
        super().__init__()
        self.source, self.target, self.head = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 3)
        self.layers = nn.ModuleList(self.Layer() for _ in range(2))

    def forward(self, source: Tensor, target: Tensor, keep: Tensor) -> Tensor:
        memory, x = self.source(source).tanh(), self.target(target)
        mask = (1.0 - keep)[:, None, None, :] * -5.0
        for layer in self.layers:
            x = layer(x, mask, memory)
        return self.head(x)


class Plain(nn.Module):
    """Convolutions of one width in a row, with norms and activations in place, then a wider one."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 8, 8, 8, 16)
        parts: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            parts += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*parts)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


class Basic(nn.Module):
    """The block of a residual network; everything that can be is done in place."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1, self.act = nn.BatchNorm2d(after), nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.down = nn.Conv2d(before, after, 1, stride) if before != after else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        y += x if self.down is None else self.down(x)
        return self.act(y)


class Residuals(nn.Module):
    """Two stages: 4 channels twice, then 8 channels twice; the first of the second has a projection."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.stage1 = nn.Sequential(Basic(4, 4, 1), Basic(4, 4, 1))
        self.stage2 = nn.Sequential(Basic(4, 8, 2), Basic(8, 8, 1))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stage2(self.stage1(F.relu(self.stem(x)))).mean((2, 3)))


class Experts(nn.Module):
    """Equal layers beside each other, not after each other: nothing repeats."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(6, 8), nn.Linear(8, 3)
        self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(torch.stack([e(x) for e in self.experts]).amax(0))


class Skips(nn.Module):
    """All layers read what the stem computed as well, but the last, which reads something of its own."""

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: Tensor, skip: Tensor) -> Tensor:
            return self.a(x).relu() * self.b(skip)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(6, 8), nn.Linear(8, 3)
        self.layers = nn.ModuleList(self.Layer() for _ in range(3))
        self.side = nn.Linear(6, 8)

    def forward(self, x: Tensor) -> Tensor:
        first = self.stem(x).tanh()
        second = self.layers[0](first, first).tanh()
        third = self.layers[1](second, first).tanh()
        return self.head(self.layers[2](third, self.side(x)))


class Overwritten(nn.Module):
    """The branch starts with an activation in place on a view, so the shortcut sees it too."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fc, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.fc(F.relu(x.view(-1, 8), inplace=True)).view(-1, 5, 8))


class Activation(nn.Module):
    """The tanh approximation of GELU by hand: a residual sum and a gate without parameters, which are no blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        return self.fc2(x * (1 + torch.tanh(0.8 * (x + 0.044715 * x**3))))


def _decoder_inputs(batch: int) -> tuple[Tensor, ...]:
    keep = torch.ones(batch, 5)
    keep[:, 3:] = 0.0
    return rows()(batch), rows()(batch) + 1.0, keep


CASES = [
    BlockCase(
        "pre_norm", lambda: Layers(PreNorm), rows(), {"layers.0": "branch 228", "layers.1": "branch 228"}
    ),
    BlockCase(
        "two_branches",
        lambda: Layers(TwoBranches),
        rows(),
        {
            f"layers.{i}{part}": what
            for i in range(2)
            for part, what in (
                ("", f"block 540 =layers.{i}.attn layers.{i}.mlp"),
                (".attn", "branch 312"),
                (".mlp", "branch 228"),
            )
        },
    ),
    BlockCase(
        "post_norm",
        lambda: Layers(PostNorm),
        rows(),
        {
            f"layers.{i}{part}": what
            for i in range(2)
            for part, what in (
                ("", f"block 532 layers.{i}.attn layers.{i}.mlp"),
                (".attn", "branch 288"),
                (".mlp", "branch 212"),
            )
        },
    ),
    BlockCase(
        "parallel",
        lambda: Layers(Parallel),
        rows(),
        {
            f"layers.{i}{part}": what
            for i in range(2)
            for part, what in (
                ("", f"block 516 =layers.{i}.attn layers.{i}.mlp"),
                (".attn", "branch 288"),
                (".mlp", "branch 212"),
            )
        },
    ),
    BlockCase("gated", lambda: Layers(Gated), rows(), {"layers.0": "branch 72", "layers.1": "branch 72"}),
    BlockCase("shared", Shared, rows(), {"block": "branch 0", "block#2": "branch 0", "block#3": "branch 0"}),
    BlockCase("tied_to_head", TiedToHead, rows(), {"fc1": "branch 80"}),
    BlockCase(
        "weights",
        Weights,
        rows(),
        {"two": "branch 288"},
        {"one": "its value softmax is also an output of the model"},
    ),
    BlockCase(
        "decoder",
        Decoder,
        _decoder_inputs,
        {
            f"layers.{i}{part}": what
            for i in range(2)
            for part, what in (
                ("", f"block 608 layers.{i}.own layers.{i}.cross"),
                (".own", "branch 288"),
                (".cross", "branch 288"),
            )
        },
    ),
    BlockCase(
        "plain",
        Plain,
        images(),
        {"body.3": "block 600", "body.6": "block 600"},
        {"body.0": "what comes in is [batch, 3, 8, 8]", "body.9": "what goes out [batch, 16, 8, 8]"},
    ),
    BlockCase(
        "residuals",
        Residuals,
        images(),
        {"stage1.0": "branch 304", "stage1.1": "branch 304", "stage2.1": "branch 1184"},
        {"stage2.0": "what comes in is [batch, 4, 8, 8], what goes out [batch, 8, 4, 4]"},
    ),
    BlockCase("experts", Experts, rows(), {}),
    BlockCase(
        "skips",
        Skips,
        rows(),
        {"layers.0": "block 144", "layers.1": "block 144"},
        {"layers.2": "it reads tanh_2 and linear_5, and only one"},
    ),
    BlockCase("overwritten", Overwritten, rows(), {}, {"fc": "its value relu_ is also read by add"}),
    BlockCase("activation", Activation, rows(), {}),
]
BLOCKS: dict[str, BlockCase] = {case.name: case for case in CASES}


@cache
def ready(name: str) -> Groups:
    """The groups of a network, made once; only to be read."""
    return BLOCKS[name].found()
