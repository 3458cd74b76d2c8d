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
        self._masks: dict[int, tuple[np.ndarray, int]] = {}
        self._indices: dict[int, Tensor] = {}

    def _kept(self, axis: Axis) -> tuple[np.ndarray, int]:
        """The mask and the new length: found once for all axes that live and die alike."""
        classes = self.coupling.classes(axis)
        known = self._masks.get(id(classes))
        if known is None:
            mask = self.alive[classes]
            known = self._masks[id(classes)] = (mask, int(mask.sum()))
        return known

    def mask(self, axis: Axis) -> np.ndarray:
        """bool ``[n]``: the kept positions."""
        return self._kept(axis)[0]

    def of(self, axis: Axis) -> int:
        """The axis's new length."""
        return self._kept(axis)[1]

    def whole(self, axis: Axis) -> bool:
        """Whether nothing of the axis is removed."""
        return self._kept(axis)[1] == len(axis)

    def before(self, axis: Axis, position: int) -> int:
        """How many kept positions lie before ``position``."""
        return int(self.mask(axis)[:position].sum())

    def indices(self, axis: Axis) -> Tensor:
        """int64: the kept positions as an index tensor."""
        mask = self.mask(axis)
        if id(mask) not in self._indices:
            self._indices[id(mask)] = torch.from_numpy(np.nonzero(mask)[0])
        return self._indices[id(mask)]

    def take(self, tensor: Tensor, axes: Axes) -> Tensor:
        """The kept positions of a tensor along all of its axes; the tensor itself if nothing is removed."""
        for dim, axis in enumerate(axes):
            if not self.whole(axis):
                tensor = tensor.index_select(dim, self.indices(axis).to(tensor.device))
        return tensor

    def shape(self, axes: Axes) -> tuple[int, ...]:
        """New lengths of several axes."""
        return tuple(self.of(axis) for axis in axes)
