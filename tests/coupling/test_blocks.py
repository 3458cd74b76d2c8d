"""Residual branches and repeated blocks: what is found, under which name, and what cannot go."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from secateur.coupling import find_blocks
from secateur.graph import trace
from tests.zoo.blocks import BLOCKS, noted, ready


@pytest.mark.parametrize("name", BLOCKS)
def test_what_can_be_removed_whole(name: str) -> None:
    found = find_blocks(ready(name))
    assert {b.name: noted(b) for b in found if not b.locked} == dict(BLOCKS[name].blocks)


@pytest.mark.parametrize("name", BLOCKS)
def test_what_cannot_and_why(name: str) -> None:
    locked = {b.name: b for b in find_blocks(ready(name)) if b.locked}
    assert set(locked) == set(BLOCKS[name].locked)
    for block, words in BLOCKS[name].locked.items():
        assert words in locked[block].locked[0]
        assert locked[block].nodes == () and locked[block].params == ()


class ReadBeforeACopy(nn.Module):
    """The branch reads the stream, and is added to a copy of it; an inner value of the branch is an output."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer, self.head = nn.Linear(4, 6), nn.Linear(6, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.head(x) @ self.head.weight
        inside = self.inner(x)
        return x.clone() + self.outer(inside.relu()), inside


def test_a_branch_that_reads_the_stream_before_its_copy_has_a_name() -> None:
    (block,) = find_blocks(trace(ReadBeforeACopy(), torch.randn(2, 4)))
    assert block.name == "inner" and "output" in block.locked[0]
