from __future__ import annotations

import pytest
import torch.nn.functional as F

from secateur.cli.tasks import resolve_task
from secateur.errors import RecipeError, UnknownName

SOURCE = """
import torch.nn.functional as F
from secateur.task import Task, classification
def regression(): return Task(F.mse_loss, lambda o, t: 0.0, higher_is_better=False, name="mse")
ready = classification()
def named(): return classification(["x", "y"])
def wrong(): return 3
"""


def test_tasks(here):
    (here / "my_tasks.py").write_text(SOURCE)
    assert resolve_task("classification", ["a", "b"]).labels == ["a", "b"]
    found = resolve_task("my_tasks:regression", ["a", "b"])
    assert found.loss is F.mse_loss and found.labels is None and not found.higher_is_better
    assert resolve_task("my_tasks:ready", ["a", "b"]).labels == ["a", "b"]
    assert resolve_task("my_tasks:named", ["a", "b"]).labels == ["x", "y"]
    with pytest.raises(RecipeError, match=r"gave int; a secateur.Task is expected"):
        resolve_task("my_tasks:wrong")
    with pytest.raises(UnknownName, match="did you mean classification"):
        resolve_task("clasification")
