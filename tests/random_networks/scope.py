"""What a maker of blocks sees of the network so far, and what it hands back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from tests.random_networks.block import Block, Code, Spec
from tests.random_networks.choices import Choices


@dataclass(frozen=True)
class Made:
    """A block, the values that it takes and those that it gives."""

    block: Block
    inputs: tuple[int, ...]
    outputs: tuple[Spec, ...]


@dataclass(frozen=True)
class Scope:
    """The values so far, and the one to go on from.

    Args:
        values: all values.
        at: the one that the next block takes.
        made: the blocks so far.
    """

    values: Sequence[Spec]
    at: int
    made: Sequence[Made]

    @property
    def x(self) -> Spec:
        """The value to go on from."""
        return self.values[self.at]

    def others(self, fits: Callable[[Spec], bool]) -> list[int]:
        """Other values that fit, the newest first."""
        return [i for i in reversed(range(len(self.values))) if i != self.at and fits(self.values[i])]

    def give(self, block: Block, *outputs: Spec, also: Sequence[int] = ()) -> Made:
        """A block on the current value and others."""
        return Made(block, (self.at, *also), outputs)

    def code(
        self, text: str, *outputs: Spec, also: Sequence[int] = (), **parts: nn.Module | nn.Parameter
    ) -> Made:
        """A line of Python on the current value and others; without outputs, the shape stays."""
        return self.give(Code(text, **parts), *(outputs or (self.x,)), also=also)


Maker = Callable[[Choices, Scope], Made | None]
"""Makes a block that goes on from the current value, or says that none fits."""

WIDTHS = (4, 6, 8, 12, 16)


def width(c: Choices, multiple: int = 1) -> int:
    """A number of features."""
    return c.pick([w for w in WIDTHS if w % multiple == 0])


def divisor(c: Choices, n: int, most: int = 4) -> int:
    """A divisor of ``n`` above one, or one where there is none."""
    return c.pick([d for d in range(2, most + 1) if n % d == 0 and d < n] or [1])
