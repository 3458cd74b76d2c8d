"""How weights are chosen and, where a method does that, how the others make up for what goes: one class each.

A method sees one layer as a matrix ``[O, K]`` and the second moments ``[K, K]`` of what it reads. Suffixes as there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.sparsity.patterns import NM, Pattern, Unstructured


class Method(ABC):
    """Makes zeros in one layer."""

    needs_inputs = True

    @abstractmethod
    def sparse(self, weight: Tensor, moments: Tensor, pattern: Pattern) -> tuple[Tensor, Tensor]:
        """The new weights ``[O, K]``, float64, and what stays, bool ``[O, K]``.

        Args:
            weight: float64 ``[O, K]``.
            moments: float64 ``[K, K]``, the mean of ``x x'``; the identity where the method needs no inputs.
        """


@dataclass(frozen=True)
class LargestWeights(Method):
    """The largest weights stay (Han et al., "Learning both Weights and Connections", NIPS 2015)."""

    needs_inputs = False

    def sparse(self, weight: Tensor, moments: Tensor, pattern: Pattern) -> tuple[Tensor, Tensor]:
        keep = pattern.keep(weight.abs())
        return weight * keep, keep


@dataclass(frozen=True)
class Wanda(Method):
    """The largest products of weight and input norm stay, output by output (Sun et al., "A Simple and Effective Pruning
    Approach for Large Language Models", ICLR 2024, equation 1)."""

    def sparse(self, weight: Tensor, moments: Tensor, pattern: Pattern) -> tuple[Tensor, Tensor]:
        if isinstance(pattern, Unstructured):
            pattern = Unstructured(pattern.sparsity, rows=True)
        keep = pattern.keep(weight.abs() * moments.diagonal().clamp(min=0).sqrt())
        return weight * keep, keep


@dataclass(frozen=True)
class SparseGPT(Method):
    """Column by column, the weights that are left make up for those that went.

    Frantar and Alistarh, "SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot" (ICML 2023),
    algorithm 1.

    Args:
        block: columns whose mask is chosen together.
        damp: added to the moments, as a share of their mean diagonal.
    """

    block: int = 128
    damp: float = 0.01

    def sparse(self, weight: Tensor, moments: Tensor, pattern: Pattern) -> tuple[Tensor, Tensor]:
        weight, hessian = weight.clone(), moments.clone()
        unseen = hessian.diagonal() <= 0
        hessian.diagonal()[unseen] = 1.0
        weight[:, unseen] = 0.0
        hessian.diagonal().add_(self.damp * hessian.diagonal().mean())
        inverse = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(hessian)), upper=True)
        keep = torch.ones_like(weight, dtype=torch.bool)
        count = weight.shape[1]
        # N:M is decided where it stands; any other pattern block by block.
        step = (
            pattern.span
            if isinstance(pattern, NM)
            else max(pattern.span, self.block // pattern.span * pattern.span)
        )
        for start in range(0, count, step):
            stop = min(start + step, count)
            own = inverse[start:stop, start:stop]
            keep[:, start:stop] = pattern.keep((weight[:, start:stop] / own.diagonal()).square())
            errors = torch.zeros_like(weight[:, start:stop])
            for i in range(stop - start):
                column = weight[:, start + i]
                left = column * keep[:, start + i]
                errors[:, i] = (column - left) / own[i, i]
                weight[:, start + i : stop] -= errors[:, i : i + 1] * own[i : i + 1, i:]
                weight[:, start + i] = left
            weight[:, stop:] -= errors @ inverse[start:stop, stop:]
        return weight * keep, keep
