"""Which positions of each axis live after a cut, and so every new size."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from secateur.coupling import Axes, Axis, Coupling


class Sizes:
    """Kept positions and sizes of axes, for one choice of what lives.

    Args:
        coupling: the program's labels.
        alive: bool ``[labels]``, from :meth:`Coupling.alive`.
    """

    def __init__(self, coupling: Coupling, alive: np.ndarray) -> None:
        self.coupling, self.alive = coupling, alive
        self._masks: dict[int, tuple[Axis, np.ndarray]] = {}
        self._indices: dict[int, Tensor] = {}

    def mask(self, axis: Axis) -> np.ndarray:
        """bool ``[n]``: the kept positions."""
        if id(axis) not in self._masks:
            self._masks[id(axis)] = (axis, self.coupling.keep(axis, self.alive))
        return self._masks[id(axis)][1]

    def of(self, axis: Axis) -> int:
        """The axis's new length."""
        return int(self.mask(axis).sum())

    def whole(self, axis: Axis) -> bool:
        """Whether nothing of the axis is removed."""
        return bool(self.mask(axis).all())

    def before(self, axis: Axis, position: int) -> int:
        """How many kept positions lie before ``position``."""
        return int(self.mask(axis)[:position].sum())

    def indices(self, axis: Axis) -> Tensor:
        """int64: the kept positions as an index tensor."""
        if id(axis) not in self._indices:
            self._indices[id(axis)] = torch.from_numpy(np.nonzero(self.mask(axis))[0])
        return self._indices[id(axis)]

    def take(self, tensor: Tensor, axes: Axes) -> Tensor:
        """The kept positions of a tensor along all of its axes; the tensor itself if nothing is removed."""
        for dim, axis in enumerate(axes):
            if not self.whole(axis):
                tensor = tensor.index_select(dim, self.indices(axis).to(tensor.device))
        return tensor

    def shape(self, axes: Axes) -> tuple[int, ...]:
        """New lengths of several axes."""
        return tuple(self.of(axis) for axis in axes)
