"""What a random network is made of: values with shapes, and blocks from values to values.

A block is a line of Python over ``x``, ``y``, ... and the block's own layers ``m.name``, so that a network prints
as the code that it runs. What a line reads across an axis (norms apart) it says by ``m.only`` and ``m.spread``,
which do nothing until the oracle names the positions that live.

Shapes leave out the batch. A *map* is ``[C, *space]``, *rows* are ``[*lead, D]`` with features last, *ids* are
``[N]`` whole numbers below :data:`VOCABULARY`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VOCABULARY = 10
NAMES = "xyzuvw"


@dataclass(frozen=True)
class Spec:
    """The shape of a value.

    Args:
        layout: ``"map"``, ``"rows"`` or ``"ids"``.
        shape: without the batch.
        fixed: for each axis, whether its size certainly follows from the inputs' and cannot be cut.
    """

    layout: str
    shape: tuple[int, ...]
    fixed: tuple[bool, ...]

    def __post_init__(self) -> None:
        assert len(self.shape) == len(self.fixed) and min(self.shape, default=1) > 0, self

    @property
    def is_map(self) -> bool:
        return self.layout == "map"

    @property
    def is_rows(self) -> bool:
        return self.layout == "rows"

    @property
    def feature(self) -> int:
        """The axis of features, counted with the batch."""
        return 1 if self.is_map else len(self.shape)

    @property
    def features(self) -> int:
        """How many features there are."""
        return self.shape[self.feature - 1]

    @property
    def space(self) -> tuple[int, ...]:
        """A map's sizes in space."""
        return self.shape[1:]

    def with_axis(self, axis: int, size: int, fixed: bool = False) -> Spec:
        """Another size of one axis, counted with the batch."""
        i = axis - 1
        return replace(
            self,
            shape=(*self.shape[:i], size, *self.shape[i + 1 :]),
            fixed=(*self.fixed[:i], fixed, *self.fixed[i + 1 :]),
        )

    def with_features(self, size: int, fixed: bool = False) -> Spec:
        """Another number of features."""
        return self.with_axis(self.feature, size, fixed)

    def with_space(self, space: Sequence[int]) -> Spec:
        """A map of another size in space."""
        return map_of(self.shape[0], *space, fixed=self.fixed[0])


def map_of(channels: int, *space: int, fixed: bool = False) -> Spec:
    """A map whose space is fixed."""
    return Spec("map", (channels, *space), (fixed, *(True for _ in space)))


def rows_of(*shape: int, fixed: Sequence[bool] | None = None) -> Spec:
    """Rows whose lead is fixed and whose features are not, unless said otherwise."""
    return Spec("rows", shape, tuple(fixed) if fixed is not None else (*(True for _ in shape[1:]), False))


class Block(nn.Module):
    """Part of a network. Attributes tell the oracle what a line of code does not.

    Args:
        parts: layers and parameters by name.

    Attributes:
        consumes: for parameters used by hand, the axes that are summed over.
        queries: ``(parameter, first row, last row)``: rows that a product consumes, which may be zeroed there.
        along: the parameter whose kept positions are those that ``only`` leaves.
        tokens: a parameter whose axis 0 must be whole for the oracle to know what to expect.
        blind: the oracle does not know what to expect.
    """

    def __init__(self, **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.consumes: Mapping[str, tuple[int, ...]] = {}
        self.queries: tuple[tuple[str, int, int], ...] = ()
        self.along: str | None = None
        self.tokens: str | None = None
        self.blind = False
        self.alive: Tensor | None = None

    def told(self, **attributes: Any) -> Block:
        """The block itself, with attributes set."""
        for name, value in attributes.items():
            assert hasattr(self, name), name
            setattr(self, name, value)
        return self

    def only(self, x: Tensor, dim: int) -> Tensor:
        """The positions that live, once the oracle says which."""
        return x if self.alive is None else x.index_select(dim, self.alive.nonzero()[:, 0])

    def spread(self, x: Tensor, dim: int) -> Tensor:
        """The inverse of :meth:`only`, with zeros elsewhere."""
        if self.alive is None:
            return x
        shape = list(x.shape)
        shape[dim] = len(self.alive)
        return x.new_zeros(shape).index_copy(dim, self.alive.nonzero()[:, 0], x)

    def recipe(self, *names: str) -> str:
        """The call as it prints, with its layers."""
        layers = ", ".join(f"{n}={p}" for n, p in self.named_children())
        loose = ", ".join(f"{n}={list(p.shape)}" for n, p in self.named_parameters(recurse=False))
        parts = "; ".join(part for part in (layers, loose) if part)
        return f"{self.line(*names)}" + (f"    # {parts}" if parts else "")

    def line(self, *names: str) -> str:
        """The call without its layers."""
        return f"{type(self).__name__}({', '.join((*names, self.extra_repr()))})".replace(", )", ")")


class Code(Block):
    """One line of Python.

    Args:
        text: an expression over ``x, y, ...`` (the inputs in order) and ``m`` (the block).
        parts: layers and parameters by name.
    """

    def __init__(self, text: str, **parts: nn.Module | nn.Parameter) -> None:
        super().__init__(**parts)
        self.text = text

    def forward(self, *inputs: Tensor) -> Any:
        known = {"m": self, "F": F, "torch": torch, "operator": operator, "math": math}
        return eval(compile(self.text, self.text, "eval"), known | dict(zip(NAMES, inputs, strict=False)))

    def extra_repr(self) -> str:
        return self.text

    def line(self, *names: str) -> str:
        given = ", ".join(f"{n}={name}" for n, name in zip(NAMES, names, strict=False))
        return f"{self.text}    # {given}"


def weight(*shape: int) -> nn.Parameter:
    """A random parameter."""
    return nn.Parameter(torch.randn(*shape) / math.sqrt(shape[-1] if len(shape) > 1 else 1))
