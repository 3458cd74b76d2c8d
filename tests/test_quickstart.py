"""The Python of the quickstart runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "quickstart.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=[str(k) for k in range(len(BLOCKS))])
def test_quickstart(block: str) -> None:
    names: dict[str, object] = {}
    exec(compile(block, str(PAGE), "exec"), names)
    dense, small = names["model"], names["small"]
    count = [sum(p.numel() for p in m.parameters()) for m in (dense, small)]  # type: ignore[attr-defined]
    assert count[1] < 0.6 * count[0]
