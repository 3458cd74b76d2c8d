"""A cut program takes any batch where the original does, also where an axis merges the batch with what was cut."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from secateur.coupling import find_groups
from secateur.graph import trace
from secateur.planning import plan_of
from secateur.surgery import cut_groups


class Heads(nn.Module):
    """Batch and four heads in one axis, all of which is taken by a slice and by ``narrow``."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens = x.shape[:2]
        h = self.a(x).view(batch, tokens, 4, 3).transpose(1, 2).reshape(batch * 4, tokens, 3)
        h = h[:, 1:].narrow(0, 0, batch * 4)
        return self.b(h.view(batch, 4, tokens - 1, 3).transpose(1, 2).flatten(2))


def test_a_slice_of_all_heads_of_all_samples() -> None:
    torch.manual_seed(0)
    groups = find_groups(trace(Heads(), torch.randn(1, 6, 8)))
    assert sorted(g.units for g in groups) == [3, 4]
    cut = cut_groups(groups, plan_of(groups, np.concatenate([g.atoms[1:2] for g in groups]))).module
    x = torch.randn(5, 6, 8)
    together, alone = cut(x), torch.cat([cut(sample) for sample in x.split(1)])
    assert cut.state_dict()["a.weight"].shape == (3 * 2, 8)
    torch.testing.assert_close(together, alone)
