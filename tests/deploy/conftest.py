"""Small models, data for them, and one of each artifact."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


class Convs(nn.Module):
    """Two convolutions with a residual, batch norm, and a classifier: ``[N, 3, 8, 8] -> [N, 4]``."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        x = torch.relu(self.second(x) + x)
        return self.head(x.mean((2, 3)))


class Tokens(nn.Module):
    """Token ids and a mask, by keyword, to a dict of two outputs, the logits last: ``[N, T] -> [N, 3]``."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        self.mix = nn.Linear(16, 16)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 3)

    def forward(self, input_ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        h = self.norm(torch.relu(self.mix(self.embed(input_ids))))
        pooled = (h * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return {"hidden": h, "logits": self.head(pooled)}


@pytest.fixture
def convs() -> nn.Module:
    torch.manual_seed(0)
    model = Convs()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(8, 3, 8, 8) * 2 + 1)
    return model.eval()


@pytest.fixture
def images() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(n, 3, 8, 8, generator=generator), torch.randint(4, (n,), generator=generator))
        for n in (8, 8, 5)
    ]


@pytest.fixture
def tokens() -> nn.Module:
    torch.manual_seed(0)
    return Tokens().eval()


@pytest.fixture
def sentences() -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(2)
    return [
        {
            "input_ids": torch.randint(20, (n, 6), generator=generator),
            "mask": torch.ones(n, 6),
            "labels": torch.randint(3, (n,), generator=generator),
        }
        for n in (4, 3)
    ]


@pytest.fixture
def onnx_file(convs: nn.Module, tmp_path: Path) -> Path:
    from secateur.deploy import export_onnx

    return export_onnx(convs, torch.zeros(1, 3, 8, 8), tmp_path / "model.onnx")
