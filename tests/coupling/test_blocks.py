"""Residual branches and repeated blocks: what is found, under which name, and what cannot go."""

from __future__ import annotations

import pytest

from secateur.coupling import find_blocks
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
