"""Convolutional networks: chains, residuals, groups, concatenations, gates."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.case import Case, images, norm


class Plain(nn.Module):
    """Two convolutions with batch norm; each channel meets four inputs of the classifier."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.drop = nn.Dropout(dropout)
        self.fc = nn.Linear(16 * 2 * 2, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.adaptive_avg_pool2d(x, 2)
        return self.fc(self.drop(x.flatten(1)))


class Residual(nn.Module):
    """One block with an identity shortcut: the stem and the block's end share their channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv1 = nn.Conv2d(8, 12, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(12)
        self.conv2 = nn.Conv2d(12, 8, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return self.fc(F.relu(x + y).mean((2, 3)))


class OptionA(nn.Module):
    """A shortcut without weights: every second pixel, channels padded with zeros on both sides."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv1 = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        y = self.conv2(F.relu(self.conv1(x)))
        x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
        return self.fc(F.relu(x + y).mean((2, 3)))


class Depthwise(nn.Module):
    """Depthwise with a channel multiplier of two, then pointwise."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.dw = nn.Conv2d(8, 16, 3, padding=1, groups=8)
        self.pw = nn.Conv2d(16, 12, 1)
        self.fc = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.pw(F.relu(self.dw(F.relu(self.stem(x)))))).mean((2, 3)))


class Grouped(nn.Module):
    """A convolution in four groups: groups, channels inside and filters inside are three choices."""

    def __init__(self) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(3, 16, 1)
        self.conv = nn.Conv2d(16, 32, 3, padding=1, groups=4)
        self.expand = nn.Conv2d(32, 6, 1)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.expand(F.relu(self.conv(F.relu(self.reduce(x)))))).mean((2, 3)))


class Dense(nn.Module):
    """Each layer reads everything before it, through a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.one = nn.Conv2d(4, 6, 3, padding=1)
        self.two = nn.Conv2d(10, 8, 3, padding=1)
        self.fc = nn.Linear(18, 5)

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.stem(x))
        b = F.relu(self.one(a))
        c = F.relu(self.two(torch.cat([a, b], 1)))
        return self.fc(torch.cat([a, b, c], 1).mean((2, 3)))


class Shuffle(nn.Module):
    """ShuffleNet's unit: half of the channels pass, half go through a branch, then both are interleaved."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 1)
        self.branch = nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Conv2d(16, 4, 1)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        left, right = F.relu(self.stem(x)).chunk(2, 1)
        x = torch.cat([left, F.relu(self.branch(right))], 1)
        b, c, h, w = x.shape
        x = x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
        return self.fc(F.relu(self.last(x)).mean((2, 3)))


class SqueezeExcite(nn.Module):
    """A gate computed from the pooled channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.down = nn.Conv2d(8, 4, 1)
        self.up = nn.Conv2d(4, 8, 1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.stem(x))
        gate = self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1))))
        return self.fc((x * gate.sigmoid()).mean((2, 3)))


class Transposed(nn.Module):
    """Transposed convolutions, plain and in two groups; an image comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.up1 = nn.ConvTranspose2d(8, 12, 2, stride=2)
        self.up2 = nn.ConvTranspose2d(12, 8, 2, stride=2, groups=2)
        self.last = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.up2(F.relu(self.up1(F.relu(self.stem(x)))))))


class GroupNorm(nn.Module):
    """Channels normalised in four groups: whole groups can go, or the same place in every group."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.GroupNorm(4, 16)
        self.conv2 = nn.Conv2d(16, 6, 3, padding=1)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.conv2(F.relu(self.norm(self.conv1(x))))).mean((2, 3)))


class SubPixel(nn.Module):
    """Pixel shuffle: four channels become one with four times the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 24, 3, padding=1)
        self.last = nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.pixel_shuffle(self.conv2(F.relu(self.conv1(x))), 2))


class OneAxis(nn.Module):
    """Conv1d over a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(4, 8, 3, padding=1)
        self.conv2 = nn.Conv1d(8, 6, 3, stride=2, padding=1)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.conv2(F.relu(self.conv1(x)))).amax(-1))


class ThreeAxes(nn.Module):
    """Conv3d over a small volume."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(1, 8, 3, padding=1)
        self.bn = nn.BatchNorm3d(8)
        self.conv2 = nn.Conv3d(8, 6, 1)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool3d(F.relu(self.bn(self.conv1(x))), 2)
        return self.fc(F.relu(self.conv2(x)).mean((2, 3, 4)))


class InPlace(nn.Module):
    """Writes over its own tensors: ``relu_``, ``+=``, ``*=`` on a part."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x).relu_()
        y = F.hardswish(self.conv2(x), inplace=True)
        y += x
        y[:, :, :2].mul_(3.0)
        return self.fc(y.mean((2, 3)))


class Maxout(nn.Module):
    """The larger of two branches, and a maximum over space."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 8, 3, padding=1)
        self.right = nn.Conv2d(3, 8, 1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.max(self.left(x), self.right(x))
        return self.fc(x.flatten(2).max(-1).values)


CASES = (
    Case(
        "plain", Plain, images(),
        {
            "conv1.weight:0": f"8 | conv1.weight:0 {norm('bn1')} conv2.weight:1",
            "conv2.weight:0": f"16 | conv2.weight:0 {norm('bn2')} fc.weight:1*4",
        },
        params=3 * 8 * 9 + 2 * 8 + 8 * 16 * 9 + 2 * 16 + 64 * 5 + 5,
        macs=64 * (3 * 8 * 9 + 8 * 16 * 9) + 64 * 5,
        locks={"conv1.weight:1": "axis 1 of 'x'", "fc.weight:0": "output of the model", "fc.bias:0": "output"},
    ),
    Case(
        "residual", Residual, images(),
        {
            "stem.weight:0": f"8 | stem.weight:0 stem.bias:0 conv1.weight:1 conv2.weight:0 {norm('bn2')} fc.weight:1",
            "conv1.weight:0": f"12 | conv1.weight:0 {norm('bn1')} conv2.weight:1",
        },
        params=3 * 8 * 9 + 8 + 8 * 12 * 9 + 2 * 12 + 12 * 8 * 9 + 2 * 8 + 8 * 5 + 5,
        macs=64 * (3 * 8 * 9 + 8 * 12 * 9 + 12 * 8 * 9) + 8 * 5,
    ),
    Case(
        "option_a", OptionA, images(),
        {
            "stem.weight:0": "8 | stem.weight:0 stem.bias:0 conv1.weight:1 conv2.weight:0 conv2.bias:0 fc.weight:1",
            "conv1.weight:0": "16 | conv1.weight:0 conv1.bias:0 conv2.weight:1",
            # The padded ends: four channels before and four after those of the stem.
            "conv2.weight:0": "8 | conv2.weight:0 conv2.bias:0 fc.weight:1",
        },
        params=3 * 8 * 9 + 8 + 8 * 16 * 9 + 16 + 16 * 16 * 9 + 16 + 16 * 5 + 5,
        macs=64 * 3 * 8 * 9 + 16 * (8 * 16 * 9 + 16 * 16 * 9) + 16 * 5,
    ),
    Case(
        "depthwise", Depthwise, images(),
        {
            "stem.weight:0": "8 | stem.weight:0 stem.bias:0 dw.weight:0*2 dw.bias:0*2 pw.weight:1*2",
            "dw.weight:0": "2 | dw.weight:0*8 dw.bias:0*8 pw.weight:1*8",
            "pw.weight:0": "12 | pw.weight:0 pw.bias:0 fc.weight:1",
        },
        params=3 * 8 + 8 + 16 * 9 + 16 + 16 * 12 + 12 + 12 * 5 + 5,
        macs=64 * (3 * 8 + 16 * 9 + 16 * 12) + 12 * 5,
    ),
    Case(
        "grouped", Grouped, images(),
        {
            # Group g holds input channels 4g .. 4g + 3 and filters 8g .. 8g + 7.
            "reduce.weight:0": "4 | reduce.weight:0*4 reduce.bias:0*4 conv.weight:1",
            "reduce.weight:0#2": "4 | reduce.weight:0*4 reduce.bias:0*4 conv.weight:0*8 conv.bias:0*8 "
            "expand.weight:1*8",
            "conv.weight:0": "8 | conv.weight:0*4 conv.bias:0*4 expand.weight:1*4",
            "expand.weight:0": "6 | expand.weight:0 expand.bias:0 fc.weight:1",
        },
        params=3 * 16 + 16 + 32 * 4 * 9 + 32 + 32 * 6 + 6 + 6 * 5 + 5,
        macs=64 * (3 * 16 + 32 * 4 * 9 + 32 * 6) + 6 * 5,
    ),
    Case(
        "dense", Dense, images(),
        {
            "stem.weight:0": "4 | stem.weight:0 stem.bias:0 one.weight:1 two.weight:1 fc.weight:1",
            "one.weight:0": "6 | one.weight:0 one.bias:0 two.weight:1 fc.weight:1",
            "two.weight:0": "8 | two.weight:0 two.bias:0 fc.weight:1",
        },
        params=3 * 4 * 9 + 4 + 4 * 6 * 9 + 6 + 10 * 8 * 9 + 8 + 18 * 5 + 5,
        macs=64 * (3 * 4 * 9 + 4 * 6 * 9 + 10 * 8 * 9) + 18 * 5,
    ),
    Case(
        "shuffle", Shuffle, images(),
        {
            # Interleaving couples channel i of the left half with channel i of the branch. Either half as a whole is a
            # unit of its own too, but alone in its group, so that it stays.
            "stem.weight:0": "8 | stem.weight:0 stem.bias:0 branch.weight:0 branch.bias:0 last.weight:1*2",
            "stem.weight:0#2": "8 | stem.weight:0 stem.bias:0 branch.weight:1",
            "last.weight:0": "4 | last.weight:0 last.bias:0 fc.weight:1",
        },
        params=3 * 16 + 16 + 8 * 8 * 9 + 8 + 16 * 4 + 4 + 4 * 5 + 5,
        macs=64 * (3 * 16 + 8 * 8 * 9 + 16 * 4) + 4 * 5,
    ),
    Case(
        "squeeze_excite", SqueezeExcite, images(),
        {
            "stem.weight:0": "8 | stem.weight:0 stem.bias:0 down.weight:1 up.weight:0 up.bias:0 fc.weight:1",
            "down.weight:0": "4 | down.weight:0 down.bias:0 up.weight:1",
        },
        params=3 * 8 * 9 + 8 + 8 * 4 + 4 + 4 * 8 + 8 + 8 * 5 + 5,
        macs=64 * 3 * 8 * 9 + 8 * 4 + 4 * 8 + 8 * 5,
    ),
    Case(
        "transposed", Transposed, images(),
        {
            "stem.weight:0": "8 | stem.weight:0 stem.bias:0 up1.weight:0",
            # Twelve channels are two groups of six, which become two groups of four.
            "up1.weight:1": "2 | up1.weight:1*6 up1.bias:0*6 up2.weight:0*6 up2.bias:0*4 last.weight:1*4",
            "up1.weight:1#2": "6 | up1.weight:1*2 up1.bias:0*2 up2.weight:0*2",
            "up2.weight:1": "4 | up2.weight:1 up2.bias:0*2 last.weight:1*2",
        },
        params=3 * 8 * 9 + 8 + 8 * 12 * 4 + 12 + 12 * 4 * 4 + 8 + 8 * 2 + 2,
        macs=64 * (3 * 8 * 9 + 8 * 12 * 4) + 256 * 12 * 4 * 4 + 1024 * 8 * 2,
        locks={"last.weight:0": "output of the model"},
    ),
    Case(
        "group_norm", GroupNorm, images(),
        {
            # Four whole groups of the norm, and four places inside every group.
            "conv1.weight:0": "4 | conv1.weight:0*4 conv1.bias:0*4 norm.weight:0*4 norm.bias:0*4 conv2.weight:1*4",
            "conv1.weight:0#2": "4 | conv1.weight:0*4 conv1.bias:0*4 norm.weight:0*4 norm.bias:0*4 conv2.weight:1*4",
            "conv2.weight:0": "6 | conv2.weight:0 conv2.bias:0 fc.weight:1",
        },
        params=3 * 16 * 9 + 16 + 2 * 16 + 16 * 6 * 9 + 6 + 6 * 5 + 5,
        macs=64 * (3 * 16 * 9 + 16 * 6 * 9) + 6 * 5,
        exact=False,
    ),
    Case(
        "pixel_shuffle", SubPixel, images(),
        {
            "conv1.weight:0": "8 | conv1.weight:0 conv1.bias:0 conv2.weight:1",
            "conv2.weight:0": "6 | conv2.weight:0*4 conv2.bias:0*4 last.weight:1",
        },
        params=3 * 8 * 9 + 8 + 8 * 24 * 9 + 24 + 6 * 3 * 9 + 3,
        macs=64 * (3 * 8 * 9 + 8 * 24 * 9) + 256 * 6 * 3 * 9,
        locks={"last.weight:0": "output of the model"},
    ),
    Case(
        "conv1d", OneAxis, lambda batch: torch.randn(batch, 4, 10, generator=torch.Generator().manual_seed(1)),
        {
            "conv1.weight:0": "8 | conv1.weight:0 conv1.bias:0 conv2.weight:1",
            "conv2.weight:0": "6 | conv2.weight:0 conv2.bias:0 fc.weight:1",
        },
        params=4 * 8 * 3 + 8 + 8 * 6 * 3 + 6 + 6 * 5 + 5,
        macs=10 * 4 * 8 * 3 + 5 * 8 * 6 * 3 + 6 * 5,
    ),
    Case(
        "conv3d", ThreeAxes, lambda batch: torch.randn(batch, 1, 4, 4, 4, generator=torch.Generator().manual_seed(1)),
        {
            "conv1.weight:0": f"8 | conv1.weight:0 conv1.bias:0 {norm('bn')} conv2.weight:1",
            "conv2.weight:0": "6 | conv2.weight:0 conv2.bias:0 fc.weight:1",
        },
        params=1 * 8 * 27 + 8 + 2 * 8 + 8 * 6 + 6 + 6 * 5 + 5,
        macs=64 * 1 * 8 * 27 + 8 * 8 * 6 + 6 * 5,
    ),
    Case(
        "in_place", InPlace, images(),
        {"conv1.weight:0": "8 | conv1.weight:0 conv1.bias:0 conv2.weight:0 conv2.weight:1 conv2.bias:0 fc.weight:1"},
        params=3 * 8 * 9 + 8 + 8 * 8 * 9 + 8 + 8 * 5 + 5,
        macs=64 * (3 * 8 * 9 + 8 * 8 * 9) + 8 * 5,
    ),
    Case(
        "maxout", Maxout, images(),
        {"left.weight:0": "8 | left.weight:0 left.bias:0 right.weight:0 right.bias:0 fc.weight:1"},
        params=3 * 8 * 9 + 8 + 3 * 8 + 8 + 8 * 5 + 5,
        macs=64 * (3 * 8 * 9 + 3 * 8) + 8 * 5,
    ),
)  # fmt: skip
