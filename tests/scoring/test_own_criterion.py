"""The criterion that docs/how-to-choose.md shows runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.zoo import ZOO

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to-choose.md"


def test_the_criterion_of_the_page() -> None:
    model, inputs = ZOO["plain"].model(), ZOO["plain"].inputs(2)
    (code,) = re.findall(r"```python\n(from dataclasses.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {"model": model, "example_inputs": inputs, "__name__": "page"}
    exec(compile(code, str(PAGE), "exec"), names)
    small = names["small"]
    assert sum(p.numel() for p in small.model.parameters()) < sum(p.numel() for p in model.parameters())
    assert small.verification.max_relative_error < 1e-3
