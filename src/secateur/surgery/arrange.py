"""Permutes a tensor inside each context: each head's dimensions, each convolution group's channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from secateur.coupling import Inside, Placement
from secateur.planning import source


def arrange(tensor: Tensor, placed: Sequence[tuple[Placement, np.ndarray]]) -> Tensor:
    """The tensor with its units in new orders, one ``[contexts, units]`` for each placement; a new one if any."""
    for placement, order in placed:
        found = torch.from_numpy(source(placement, order, tensor.shape[placement.axis])).to(tensor.device)
        if isinstance(placement, Inside):
            tensor = tensor.index_select(placement.axis, found)
            continue
        whole = tensor.clone()
        for rows, indices in zip(torch.from_numpy(placement.rows).to(tensor.device), found, strict=True):
            block = tensor.index_select(placement.over, rows).index_select(placement.axis, indices)
            whole.index_copy_(placement.over, rows, block)
        tensor = whole
    return tensor
