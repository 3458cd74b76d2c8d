"""Every test starts from the same seeds, on one thread, with deterministic kernels and without a network."""

from __future__ import annotations

import os
import random
from types import ModuleType

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import pytest
import torch
from hypothesis import settings

from tests import torchvision_ops

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True, warn_only=True)

# Times on a shared machine vary too much for a deadline; a failure must be the same one when run again.
settings.register_profile("secateur", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("secateur")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What latency tables are kept in: not the user's own."""
    os.environ["SECATEUR_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random numbers for every test, whichever ran before."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def torchvision() -> ModuleType:
    """torchvision, or a skip."""
    torchvision_ops.define()
    return _optional("torchvision")


@pytest.fixture(scope="session")
def timm(torchvision: ModuleType) -> ModuleType:
    """timm, or a skip where it or the torchvision that it needs cannot be imported."""
    return _optional("timm")


def _optional(name: str) -> ModuleType:
    return pytest.importorskip(name, exc_type=(ImportError, RuntimeError, AttributeError))
