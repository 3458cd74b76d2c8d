"""Second moments of a layer's inputs and of what it should give, and the weights that fit them best.

Ridge regression around the weights that the cut left: what the calibration data do not tell stays as it was. How strong
the ridge is, is decided by every fourth batch, which the others' solution is tried on.

Suffixes as in :mod:`secateur.recovery.reconstruct.layers`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@dataclass
class Moments:
    """Sums over rows, in double precision."""

    count: int
    x: Tensor  # [G, K]
    y: Tensor  # [G, O]
    xx: Tensor  # [G, K, K]
    xy: Tensor  # [G, K, O]
    yy: Tensor  # [G, O]

    @classmethod
    def of(cls, x: Tensor, y: Tensor) -> Moments:
        """Of rows ``[P, G, K]`` and ``[P, G, O]``."""
        products = [(a.T @ a, a.T @ b) for a, b in zip(x.unbind(1), y.unbind(1), strict=True)]
        xx, xy = (torch.stack(parts) for parts in zip(*products, strict=True))
        return cls(x.shape[0], *(s.double() for s in (x.sum(0), y.sum(0), xx, xy, (y * y).sum(0))))

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.count + other.count, self.x + other.x, self.y + other.y, self.xx + other.xx,
            self.xy + other.xy, self.yy + other.yy,
        )  # fmt: skip

    def centred(self) -> Moments:
        """The same about the means."""
        n = self.count
        return Moments(
            n,
            self.x,
            self.y,
            self.xx - self.x[:, :, None] * self.x[:, None, :] / n,
            self.xy - self.x[:, :, None] * self.y[:, None, :] / n,
            self.yy - self.y**2 / n,
        )

    def error(self, weight: Tensor) -> Tensor:
        """``[G, O]``: the mean squared error of these weights ``[G, K, O]``."""
        fitted = torch.einsum("gko,gkl,glo->go", weight, self.xx, weight)
        return (self.yy - 2 * (weight * self.xy).sum(1) + fitted).clamp(min=0) / self.count

    def solved(self, start: Tensor, ridge: float) -> Tensor:
        """``[G, K, O]``: the weights nearest to ``start`` that fit."""
        scale = self.xx.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-30)
        left = self.xx + (ridge * scale)[:, None, None] * torch.eye(
            self.xx.shape[1], dtype=torch.float64, device=self.xx.device
        )
        factor, failed = torch.linalg.cholesky_ex(left)
        if failed.any():
            return start
        return start + torch.cholesky_solve(self.xy - self.xx @ start, factor)


@dataclass(frozen=True)
class Fitted:
    """Weights that fit.

    Args:
        weight: ``[G, K, O]``.
        constant: ``[G, O]``, the mean of what is asked for, less that of what the weights give.
        ridge: how strongly they are held to where they began.
        moments: what they were fitted to, not centred.
        intercept: whether the layer can give a constant.
    """

    weight: Tensor
    constant: Tensor
    ridge: float
    moments: Moments
    intercept: bool

    def give(self, x: Tensor) -> Tensor:
        """``[P, G, O]`` from ``[P, G, K]``."""
        found = torch.einsum("pgk,gko->pgo", x, self.weight.to(x.dtype))
        return found + self.constant.to(x.dtype) if self.intercept else found

    def again(self, xy: Tensor, y: Tensor, start: Tensor) -> Fitted:
        """The same inputs, another target: its products with them and its sum."""
        return _fitted(replace(self.moments, xy=xy, y=y), start, self.ridge, self.intercept)


def crossed(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The moments of rows that have the target in them: ``[G, K, O]`` and ``[G, O]``."""
    each = [(a.T @ b).double() for a, b in zip(x.unbind(1), y.unbind(1), strict=True)]
    return torch.stack(each), y.double().sum(0)


def _fitted(moments: Moments, start: Tensor, ridge: float, intercept: bool) -> Fitted:
    weight = (moments.centred() if intercept else moments).solved(start, ridge)
    constant = (moments.y - (weight * moments.x[:, :, None]).sum(1)) / moments.count
    return Fitted(weight, constant, ridge, moments, intercept)


def fit(parts: list[Moments], start: Tensor, intercept: bool) -> Fitted:
    """Weights for the moments of several batches.

    Args:
        parts: of the batches.
        start: ``[G, K, O]``, the weights as the cut left them.
        intercept: whether the layer can give a constant.
    """

    def of(chosen: list[Moments]) -> Moments:
        total = sum(chosen[1:], chosen[0])
        return total.centred() if intercept else total

    ridge = RIDGES[1]
    if len(parts) >= 4:
        train, test = of([p for i, p in enumerate(parts) if i % 4]), of(parts[::4])
        ridge = min(RIDGES, key=lambda r: float(test.error(train.solved(start, r)).sum()))
    return _fitted(sum(parts[1:], parts[0]), start, ridge, intercept)
