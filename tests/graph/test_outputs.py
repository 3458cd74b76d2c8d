"""Outputs of a program under the names that the model gives them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from secateur.graph import outputs, trace


class Pair(NamedTuple):
    """What a model may return."""

    left: Tensor
    right: Tensor


class Returns(nn.Module):
    """Returns what it is told to."""

    def __init__(self, form: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.form, self.a, self.b = form, nn.Linear(4, 3), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Any:
        return self.form(self.a(x), self.b(x))


@pytest.mark.parametrize(
    ("form", "names"),
    [
        (lambda a, b: a + b.sum(), {0: "output"}),
        (lambda a, b: (a, b), {0: "0", 1: "1"}),
        (lambda a, b: [a], {0: "0"}),
        (lambda a, b: {"logits": a, "features": b}, {0: "logits", 1: "features"}),
        (lambda a, b: Pair(a, b), {0: "left", 1: "right"}),
        # Numbers and None keep their places, and are no outputs that could shrink.
        (lambda a, b: {"x": (a, None), "n": 3, "y": {"z": [b]}}, {0: "x.0", 3: "y.z.0"}),
    ],
)
def test_names(form: Callable[[Tensor, Tensor], Any], names: dict[int, str]) -> None:
    found = outputs(trace(Returns(form).eval(), torch.randn(2, 4)))
    assert {o.index: o.name for o in found} == names
    assert all(o.shape[0] == 2 for o in found)
