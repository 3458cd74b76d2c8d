"""Where a random network's choices come from: a seed, a recorded list, or Hypothesis.

A network is nothing but the list of numbers that were chosen on the way, so a failure is made smaller by
making that list shorter and its numbers smaller: every list of numbers is some network. Zero is always the
simplest choice, and the answer once a list is used up.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """Draws numbers and remembers them.

    Args:
        source: gives a number from 0 to its argument, inclusive.
    """

    def __init__(self, source: Callable[[int], int]) -> None:
        self._source = source
        self.made: list[int] = []

    def number(self, low: int, high: int) -> int:
        """A number from ``low`` to ``high``, both included; ``low`` is the simplest."""
        if high <= low:
            return low
        self.made.append(self._source(high - low))
        return low + self.made[-1]

    def pick(self, options: Sequence[T]) -> T:
        """One of several options; the first is the simplest."""
        return options[self.number(0, len(options) - 1)]

    def chance(self, one_in: int = 2) -> bool:
        """True once in ``one_in`` times; False is the simplest."""
        return self.number(0, one_in - 1) == one_in - 1


def seeded(seed: int) -> Choices:
    """The choices of a seed."""
    rng = random.Random(seed)
    return Choices(lambda most: rng.randint(0, most))


def replayed(numbers: Sequence[int]) -> Choices:
    """Choices made before, or a list of numbers that nobody chose."""
    rest = iter(numbers)
    return Choices(lambda most: next(rest, 0) % (most + 1))


def drawn(draw: Callable[..., int]) -> Choices:
    """The choices of a Hypothesis strategy, which it makes smaller by its own means."""
    from hypothesis import strategies as st

    return Choices(lambda most: draw(st.integers(0, most)))
