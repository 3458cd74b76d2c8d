"""Folded weights, several inputs and outputs, einsum, operators without a rule, half precision."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from tests.zoo.case import Case, images
from tests.zoo.convolutions import Plain


class Standardised(nn.Conv2d):
    """Weight standardisation: zero mean and unit variance over each filter."""

    def forward(self, x: Tensor) -> Tensor:
        var, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
        weight = (self.weight - mean) * torch.rsqrt(var + 1e-5)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class Folded(nn.Module):
    """A plain convolution, a weight-standardised one, and one with weight norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 1)
        self.conv2 = Standardised(4, 8, 3, padding=1)
        self.conv3 = parametrizations.weight_norm(nn.Conv2d(8, 6, 3, padding=1))
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv2(F.relu(self.conv1(x))))
        return self.fc(F.relu(self.conv3(x)).mean((2, 3)))


class TwoInputs(nn.Module):
    """An image and a table of numbers, by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.table = nn.Linear(4, 8)
        self.fc = nn.Linear(8, 5)

    def forward(self, image: Tensor, numbers: Tensor) -> Tensor:
        return self.fc(F.relu(self.conv(image).mean((2, 3)) + self.table(numbers)))


class TwoOutputs(nn.Module):
    """Classes and features: the features lock what makes them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 6, 3, padding=1)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.conv2(F.relu(self.conv1(x))).mean((2, 3))
        return {"classes": self.fc(features), "features": features}


class Einsum(nn.Module):
    """Heads by einsum: a weight of three axes, and a contraction over two letters at once."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 4, 6))
        self.back = nn.Parameter(torch.randn(4, 6, 8))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(torch.einsum("bni,ihd->bnhd", x, self.weight))
        return self.head(F.relu(torch.einsum("...hd,hdo->...o", x, self.back)).mean(1))


class Unknown(nn.Module):
    """An operator without a rule in the middle: what it touches stays, the rest can go."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(16, 12)
        self.fc2 = nn.Linear(12, 10)
        self.fc3 = nn.Linear(6, 8)
        self.fc4 = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc2(F.relu(self.fc1(x)))
        x = torch.complex(x, x.cos()).as_strided((x.shape[0], 6), (10, 1)).abs()
        return self.fc4(F.relu(self.fc3(x)))


class Half(nn.Module):
    """The plain network in bfloat16, but for its inputs and outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Plain().to(torch.bfloat16)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.to(torch.bfloat16)).float()


def _vectors(batch: int) -> Tensor:
    return torch.randn(batch, 16, generator=torch.Generator().manual_seed(1))


def _two_inputs(batch: int) -> dict[str, Tensor]:
    return {"image": images()(batch), "numbers": _vectors(batch)[:, :4]}


def _prefixed(line: str) -> str:
    units, _, members = line.partition(" | ")
    return f"{units} | " + " ".join(f"net.{m}" for m in members.split())


def _plain() -> Case:
    from tests.zoo.convolutions import CASES

    return CASES[0]


CASES = (
    Case(
        "folded", Folded, images(),
        {
            "conv1.weight:0": "4 | conv1.weight:0 conv1.bias:0 conv2.weight:1",
            "conv2.bias:0": "8 | conv2.weight:0 conv2.bias:0 conv3.weight:1",
            "conv3.bias:0": "6 | conv3.weight:0 conv3.bias:0 fc.weight:1",
        },
        # The magnitudes of weight norm are part of the folded weight.
        params=3 * 4 + 4 + 4 * 8 * 9 + 8 + 8 * 6 * 9 + 6 + 6 * 5 + 5,
        macs=64 * (3 * 4 + 4 * 8 * 9 + 8 * 6 * 9) + 6 * 5,
    ),
    Case(
        "two_inputs", TwoInputs, _two_inputs,
        {"conv.weight:0": "8 | conv.weight:0 conv.bias:0 table.weight:0 table.bias:0 fc.weight:1"},
        params=3 * 8 * 9 + 8 + 4 * 8 + 8 + 8 * 5 + 5,
        macs=64 * 3 * 8 * 9 + 4 * 8 + 8 * 5,
        locks={"table.weight:1": "axis 1 of 'numbers'"},
    ),
    Case(
        "two_outputs", TwoOutputs, images(),
        {"conv1.weight:0": "8 | conv1.weight:0 conv1.bias:0 conv2.weight:1"},
        params=3 * 8 * 9 + 8 + 8 * 6 * 9 + 6 + 6 * 5 + 5,
        macs=64 * (3 * 8 * 9 + 8 * 6 * 9) + 6 * 5,
        locks={"conv2.weight:0": "output of the model", "fc.weight:1": "output of the model"},
    ),
    Case(
        "einsum", Einsum,
        lambda batch: torch.randn(batch, 3, 16, generator=torch.Generator().manual_seed(1)),
        {
            "weight:1": "4 | weight:1 back:0",
            "weight:2": "6 | weight:2 back:1",
            "back:2": "8 | back:2 head.weight:1",
        },
        params=16 * 4 * 6 + 4 * 6 * 8 + 8 * 5 + 5,
        macs=3 * (16 * 4 * 6 + 4 * 6 * 8) + 8 * 5,
    ),
    Case(
        "unknown", Unknown, _vectors,
        {
            "fc1.weight:0": "12 | fc1.weight:0 fc1.bias:0 fc2.weight:1",
            "fc3.weight:0": "8 | fc3.weight:0 fc3.bias:0 fc4.weight:1",
        },
        params=16 * 12 + 12 + 12 * 10 + 10 + 6 * 8 + 8 + 8 * 5 + 5,
        macs=16 * 12 + 12 * 10 + 6 * 8 + 8 * 5,
        locks={"fc2.weight:0": "has no rule", "fc2.bias:0": "as_strided"},
    ),
    Case(
        "half", Half, images(),
        {f"net.{name}": _prefixed(line) for name, line in _plain().groups.items()},
        params=_plain().params,
        macs=_plain().macs,
    ),
)  # fmt: skip
