"""A random network: blocks in a row, each on any of the values before it, as one module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tests.random_networks import attention, exotic, maps, rows, shapes
from tests.random_networks.block import VOCABULARY, Spec, map_of, rows_of
from tests.random_networks.choices import Choices, replayed, seeded
from tests.random_networks.scope import Made, Maker, Scope
from tests.zoo.case import randomise

MAKERS: list[Maker] = [
    maker
    for table in (shapes.MAKERS, maps.MAKERS, rows.MAKERS, attention.MAKERS, exotic.MAKERS)
    for maker, weight in table.items()
    for _ in range(weight)
]
MOST = 12
"""Blocks in a network at most, heads apart."""

INPUTS = (
    map_of(3, 6, 6, fixed=True),
    rows_of(4, 8, fixed=(True, True)),
    rows_of(8, fixed=(True,)),
    Spec("ids", (5,), (True,)),
    map_of(2, 8, fixed=True),
    map_of(2, 4, 4, 2, fixed=True),
    map_of(4, 4, 5, fixed=True),
    rows_of(6, 8, fixed=(True, True)),
)


def batch_is_two(*inputs: Tensor) -> None:
    """What the code of some models insists on.

    Raises:
        ValueError: the batch is another.
    """
    if any(t.shape[0] != 2 for t in inputs):
        raise ValueError("the batch is two")


class Network(nn.Module):
    """The blocks as one module with up to three inputs.

    Args:
        inputs: shapes of the inputs.
        made: blocks, each once for each use.
        outputs: the values that are returned; one alone as a tensor, more as a tuple or a dict.
        named: whether more than one is returned as a dict.
        fixed: whether the code insists on a batch of two, as some models' does: tracing takes a third of the time.
    """

    def __init__(
        self,
        inputs: Sequence[Spec],
        made: Sequence[Made],
        outputs: Sequence[int],
        named: bool,
        fixed: bool = True,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(dict.fromkeys(m.block for m in made))
        self.inputs, self.made, self.outputs, self.named = tuple(inputs), tuple(made), tuple(outputs), named
        self.fixed = fixed

    def forward(self, a: Tensor, b: Tensor | None = None, c: Tensor | None = None) -> Any:
        values: list[Any] = [t for t in (a, b, c) if t is not None]
        if self.fixed:
            batch_is_two(*values)
        for made in self.made:
            result = made.block(*(values[i] for i in made.inputs))
            values += result if isinstance(result, (tuple, list)) else [result]
        found = [values[i] for i in self.outputs]
        if self.named:
            return {f"out{i}": t for i, t in enumerate(found)}
        return found[0] if len(found) == 1 else tuple(found)

    def examples(self, batch: int = 2, seed: int = 0) -> tuple[Tensor, ...]:
        """Random inputs, of another batch where the network takes it."""
        batch = 2 if self.fixed else batch
        g = torch.Generator().manual_seed(seed)
        return tuple(
            # No word twice: two equal tokens would tie wherever the largest is chosen.
            torch.rand(batch, VOCABULARY, generator=g).argsort(1)[:, : s.shape[0]]
            if s.layout == "ids"
            else torch.randn(batch, *s.shape, generator=g, dtype=torch.float64)
            for s in self.inputs
        )

    def recipe(self) -> str:
        """The network as lines of code."""
        lines = [f"v{i}: {s.layout} {list(s.shape)}" for i, s in enumerate(self.inputs)]
        n = len(self.inputs)
        place = {id(b): i for i, b in enumerate(self.blocks)}
        for made in self.made:
            names = ", ".join(f"v{n + k}" for k in range(len(made.outputs)))
            n += len(made.outputs)
            shape = " ".join(str(list(o.shape)) for o in made.outputs)
            given = ", ".join(f"v{i}" for i in made.inputs)
            lines.append(f"{names} = block{place[id(made.block)]}({given})  {shape}  {made.block.recipe()}")
        return "\n".join([*lines, f"return {', '.join(f'v{i}' for i in self.outputs)}"])


@dataclass(frozen=True)
class Grown:
    """A network and the numbers that it was grown from."""

    network: Network
    numbers: tuple[int, ...]
    seed: int


def grow(c: Choices, seed: int = 0) -> Grown:
    """Grows a network in double precision and evaluation mode, every tensor of it random.

    Args:
        c: the choices.
        seed: of the weights.
    """
    torch.manual_seed(seed)
    fixed = not c.chance(4)
    inputs = [c.pick(INPUTS)]
    while len(inputs) < 3 and c.chance(6):
        inputs.append(c.pick(INPUTS))
    values, made = list(inputs), list[Made]()
    for at in range(len(inputs)):  # widths of the inputs are fixed: most often a first layer makes others
        first = _stem(c, Scope(values, at, made))
        if first is not None:
            made.append(first)
            values += first.outputs
    while len(made) < MOST and c.number(0, 19):
        scope = Scope(values, _next(c, values, made), made)
        step = _step(c, scope)
        made.append(step)
        values += step.outputs
    outputs = []
    for at in _ends(c, values, made, len(inputs)):
        if values[at].layout != "ids" and not c.chance(8):
            step = _head(c, Scope(values, at, made))
            made.append(step)
            values += step.outputs
            at = len(values) - 1
        outputs.append(at)
    kept, outputs = needed(inputs, made, outputs)
    network = Network(inputs, kept, outputs, len(outputs) > 1 and c.chance(), fixed).double().eval()
    randomise(network)
    with torch.no_grad():  # queries and keys large enough to tell scales apart
        for name, p in network.named_parameters():
            if name.endswith((".q.weight", ".k.weight", ".qkv.weight", "in_proj_weight")):
                p.mul_(3)
    return Grown(network, tuple(c.made), seed)


def from_seed(seed: int) -> Grown:
    """The network of a seed."""
    return grow(seeded(seed), seed)


def from_numbers(numbers: Sequence[int], seed: int = 0) -> Grown:
    """The network of a list of numbers."""
    return grow(replayed(numbers), seed)


def _stem(c: Choices, scope: Scope) -> Made | None:
    """A first layer on an input, or none."""
    if c.chance(6):
        return None
    kind = {"map": maps.convolution, "rows": rows.linear, "ids": rows.embed}[scope.x.layout]
    return kind(c, scope)


def _next(c: Choices, values: Sequence[Spec], made: Sequence[Made]) -> int:
    """What to go on from: mostly the newest value that nothing has read yet."""
    used = {i for m in made for i in m.inputs}
    fresh = [i for i in reversed(range(len(values))) if i not in used]
    newest = list(reversed(range(len(values))))
    return c.pick(newest) if not fresh or c.chance(6) else fresh[min(c.pick((0, 0, 0, 1)), len(fresh) - 1)]


def _step(c: Choices, scope: Scope) -> Made:
    """A block of the kind chosen, or of the next kind that fits."""
    first = c.number(0, len(MAKERS) - 1)
    tried = set[Maker]()
    for k in range(len(MAKERS)):
        maker = MAKERS[(first + k) % len(MAKERS)]
        if maker in tried:
            continue
        tried.add(maker)
        made = maker(c, scope)
        if made is not None:
            return made
    raise AssertionError(f"no block fits {scope.x}")


def _ends(c: Choices, values: Sequence[Spec], made: Sequence[Made], inputs: int) -> list[int]:
    """What is returned: the last value and at times more, those first that nothing has read."""
    used = {i for m in made for i in m.inputs}
    order = sorted(range(len(values)), key=lambda i: (i in used, -i))
    order = [i for i in order if i >= inputs] or order
    return order[: c.pick((1, 1, 2, 3))]


def _head(c: Choices, s: Scope) -> Made:
    """A last layer, so that what comes before it may shrink."""
    if s.x.is_map:
        axes = tuple(range(2, len(s.x.shape) + 1))
        if c.chance():
            conv = maps.CONV[len(s.x.space) - 1](s.x.features, 2, 1)
            return s.code("m.head(x)", s.x.with_features(2, True), head=conv)
        return s.code(f"m.head(x.mean({axes}))", rows_of(3), head=nn.Linear(s.x.features, 3))
    return s.code("m.head(x)", s.x.with_features(3), head=nn.Linear(s.x.features, 3))


def needed(
    inputs: Sequence[Spec], made: Sequence[Made], outputs: Sequence[int]
) -> tuple[list[Made], list[int]]:
    """Only the blocks that an output depends on, values numbered anew; every input stays."""
    first, starts = len(inputs), []
    for m in made:
        starts.append(first)
        first += len(m.outputs)
    wanted, kept = set(outputs), list[int]()
    for k in reversed(range(len(made))):
        if wanted & set(range(starts[k], starts[k] + len(made[k].outputs))):
            wanted |= set(made[k].inputs)
            kept.append(k)
    number = {i: i for i in range(len(inputs))}
    out = []
    for k in reversed(kept):
        for j in range(len(made[k].outputs)):
            number[starts[k] + j] = len(number)
        out.append(Made(made[k].block, tuple(number[i] for i in made[k].inputs), made[k].outputs))
    return out, [number[i] for i in outputs]
