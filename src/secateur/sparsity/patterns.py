"""Patterns of zeros: which weights of a layer may stay together.

A layer is seen as a matrix ``[O, K]`` of outputs and inputs, the inputs of a convolution ordered kernel by kernel
with the channels innermost, as kernels for sparse matrices read them. Patterns that repeat (N:M, blocks) run along
that order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.errors import RecipeError


class Pattern(ABC):
    """Where zeros may stand."""

    @property
    @abstractmethod
    def span(self) -> int:
        """How many neighbouring inputs are decided together; 1 where each is by itself."""

    @abstractmethod
    def keep(self, scores: Tensor) -> Tensor:
        """bool ``[O, K]``: what stays, of scores ``[O, K]``, higher ones first; K is a multiple of ``span``."""

    @property
    @abstractmethod
    def share(self) -> float:
        """Share of zeros."""

    def obstacle(self, outputs: int, inputs: int) -> str:
        """Why a layer of this size cannot have the pattern; empty if it can."""
        return f"its {inputs} inputs are no multiple of {self.span}" if inputs % self.span else ""


def _check(sparsity: float) -> None:
    if not 0 <= sparsity < 1:
        raise RecipeError(f"sparsity={sparsity} must be at least 0 and below 1")


@dataclass(frozen=True)
class Unstructured(Pattern):
    """Single weights.

    Args:
        sparsity: share of zeros.
        rows: the same share in every output, rather than in the layer as a whole.
    """

    sparsity: float
    rows: bool = False

    def __post_init__(self) -> None:
        _check(self.sparsity)

    @property
    def span(self) -> int:
        return 1

    @property
    def share(self) -> float:
        return self.sparsity

    def keep(self, scores: Tensor) -> Tensor:
        flat = scores if self.rows else scores.reshape(1, -1)
        gone = round(self.sparsity * flat.shape[1])
        mask = torch.ones_like(flat, dtype=torch.bool)
        mask.scatter_(1, flat.argsort(dim=1, stable=True)[:, :gone], False)
        return mask.reshape(scores.shape)


@dataclass(frozen=True)
class NM(Pattern):
    """At most ``n`` of every ``m`` neighbouring inputs: 2:4 is what hardware knows.

    Mishra et al., "Accelerating Sparse Deep Neural Networks" (2021), section 3.
    """

    n: int = 2
    m: int = 4

    def __post_init__(self) -> None:
        if not 0 < self.n <= self.m:
            raise RecipeError(f"a pattern n:m needs 0 < n <= m; got {self.n}:{self.m}")

    @property
    def span(self) -> int:
        return self.m

    @property
    def share(self) -> float:
        return 1.0 - self.n / self.m

    def keep(self, scores: Tensor) -> Tensor:
        parts = scores.unflatten(1, (-1, self.m))
        mask = torch.zeros_like(parts, dtype=torch.bool)
        mask.scatter_(2, parts.argsort(dim=2, descending=True, stable=True)[..., : self.n], True)
        return mask.flatten(1)


@dataclass(frozen=True)
class Blocks(Pattern):
    """Whole blocks of ``height`` outputs by ``width`` inputs.

    Args:
        sparsity: share of zeros.
        height, width: of a block; the last blocks of a column may be lower.
    """

    sparsity: float
    height: int = 1
    width: int = 4

    def __post_init__(self) -> None:
        _check(self.sparsity)
        if self.height < 1 or self.width < 1:
            raise RecipeError(
                f"blocks need a height and a width of at least 1; got {self.height} by {self.width}"
            )

    @property
    def span(self) -> int:
        return self.width

    @property
    def share(self) -> float:
        return self.sparsity

    def keep(self, scores: Tensor) -> Tensor:
        outputs = scores.shape[0]
        padding = -outputs % self.height
        padded = torch.nn.functional.pad(scores, (0, 0, 0, padding))
        blocks = padded.unflatten(0, (-1, self.height)).unflatten(2, (-1, self.width)).sum(dim=(1, 3))
        chosen = Unstructured(self.sparsity).keep(blocks)
        spread = chosen.repeat_interleave(self.height, 0).repeat_interleave(self.width, 1)
        return spread[:outputs]
