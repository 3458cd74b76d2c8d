"""Learning-rate schedules: functions of progress in [0, 1] that give a factor of the rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

Schedule = Callable[[float], float]


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 down to ``floor``, after a linear warm-up over the first ``warmup`` of the way.

    Source: SGDR (Loshchilov and Hutter, 2017), without restarts.
    """

    warmup: float = 0.0
    floor: float = 0.0

    def __call__(self, progress: float) -> float:
        if progress < self.warmup:
            return progress / self.warmup
        rest = min(1.0, (progress - self.warmup) / (1 - self.warmup)) if self.warmup < 1 else 1.0
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * rest))


@dataclass(frozen=True)
class Constant:
    """The rate as it is, after a linear warm-up over the first ``warmup`` of the way."""

    warmup: float = 0.0

    def __call__(self, progress: float) -> float:
        return progress / self.warmup if progress < self.warmup else 1.0
