"""Layers as linear maps: what each operator with weights reads, row by row, and how its weight is a matrix.

A layer's output has one row for each position (each sample and pixel, or each token) and one column for each output
channel; it is the product of what the layer reads there and its weight. Grouped convolutions are several such maps.

``LAYERS`` is the visible table: to add an operator, write its reader. Suffixes: N samples, P positions chosen, G
groups, K inputs of a group (channels times kernel), O outputs of a group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from secateur.graph.normalise import op_name
from secateur.graph.record import bind, fetch


@dataclass(frozen=True)
class Layer:
    """One call of an operator with a weight.

    Args:
        node: the call.
        input: what it reads.
        weight, bias: names of its parameters.
        groups: G.
        channel: the axis of its output that counts channels.
        transposed: whether the weight is ``[K, O]`` and not ``[O, K]``.
        inputs: K.
        window: for convolutions, how positions are read.
    """

    node: fx.Node
    input: fx.Node
    weight: str
    bias: str | None
    groups: int = 1
    channel: int = -1
    transposed: bool = False
    inputs: int = 0
    window: Window | None = None

    def read(self, x: Tensor, picks: Tensor) -> Tensor:
        """What the layer reads at some positions: ``[P, G, K]``."""
        if self.window is None:
            return x.reshape(-1, x.shape[-1])[picks].unsqueeze(1)
        return self.window.at(x, picks, self.groups)

    def rows(self, y: Tensor, picks: Tensor) -> Tensor:
        """Values of the output's form at some positions: ``[P, G * O]``."""
        flat = y.movedim(self.channel, -1)
        return flat.reshape(-1, flat.shape[-1])[picks]

    def positions(self, y: Tensor) -> int:
        """How many rows its output has."""
        return y.numel() // y.shape[self.channel]

    def positions_of(self, x: Tensor) -> int:
        """How many rows its output has, for what it reads."""
        return x.numel() // x.shape[-1] if self.window is None else self.window.positions(x)

    def outputs_of(self, weight: Tensor) -> int:
        """How many output channels it has, all groups together."""
        return weight.shape[1] if self.transposed else weight.shape[0]

    def matrix(self, weight: Tensor) -> Tensor:
        """The weight as ``[G, K, O]``."""
        if self.transposed:
            return weight.unsqueeze(0)
        return weight.reshape(self.groups, weight.shape[0] // self.groups, -1).transpose(1, 2)

    def weight_of(self, matrix: Tensor, shape: torch.Size) -> Tensor:
        """The inverse of :meth:`matrix`."""
        return matrix[0] if self.transposed else matrix.transpose(1, 2).reshape(shape)


@dataclass(frozen=True)
class Window:
    """How a convolution reads its input: one entry for each spatial axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]

    def positions(self, x: Tensor) -> int:
        """How many positions the output has, all samples together."""
        sizes = [
            (n + a + b - (k - 1) * d - 1) // s + 1
            for n, (a, b), k, s, d in zip(
                x.shape[2:], self.padding, self.kernel, self.stride, self.dilation, strict=True
            )
        ]
        return x.shape[0] * prod(sizes)

    def at(self, x: Tensor, picks: Tensor, groups: int) -> Tensor:
        """``[P, G, K]``; positions are counted row-major over samples and output pixels."""
        dims = len(self.kernel)
        if any(a or b for a, b in self.padding):
            x = F.pad(x, [n for pair in reversed(self.padding) for n in pair])
        for i, (size, step, apart) in enumerate(zip(self.kernel, self.stride, self.dilation, strict=True)):
            x = x.unfold(2 + i, (size - 1) * apart + 1, step)[..., ::apart]
        places = (x.shape[0], *x.shape[2 : 2 + dims])
        view = x.permute(0, *range(2, 2 + dims), 1, *range(2 + dims, 2 + 2 * dims))
        rows = view[torch.unravel_index(picks, places)]
        return rows.reshape(len(picks), groups, -1)


def layer_of(node: fx.Node, module: fx.GraphModule) -> Layer | None:
    """The layer that a node calls, or None if it calls none with a weight of its own."""
    reader = LAYERS.get(op_name(node)) if node.op == "call_function" else None
    return reader(node, module) if reader else None


def mean_after(layer: Layer) -> str | None:
    """The running mean of a batch norm that alone reads the layer, if no other call reads it.

    A constant that is taken from it is added to what the layer gives.
    """
    if len(layer.node.users) != 1:
        return None
    (user,) = layer.node.users
    mean = bind(user)["running_mean"] if op_name(user) == "aten::batch_norm" else None
    if not isinstance(mean, fx.Node) or len(mean.users) > 1:
        return None
    name = str(mean.target)
    alike = [n for n in mean.graph.find_nodes(op="get_attr", target=name) if n is not mean and n.users]
    return None if alike else name


def _named(value: Any) -> str | None:
    return str(value.target) if isinstance(value, fx.Node) and value.op == "get_attr" else None


def _linear(node: fx.Node, module: fx.GraphModule) -> Layer | None:
    given = bind(node)
    weight = _named(given["weight"])
    if weight is None or not isinstance(given["input"], fx.Node):
        return None
    inputs = fetch(module, weight).shape[1]
    return Layer(node, given["input"], weight, _named(given["bias"]), inputs=inputs)


def _addmm(node: fx.Node, module: fx.GraphModule) -> Layer | None:
    given = bind(node)
    weight, bias = _named(given["mat2"]), _named(given["self"])
    plain = given.get("beta", 1) == 1 and given.get("alpha", 1) == 1
    if weight is None or bias is None or not plain or not isinstance(given["mat1"], fx.Node):
        return None
    inputs = fetch(module, weight).shape[0]
    return Layer(node, given["mat1"], weight, bias, transposed=True, inputs=inputs)


def _matmul(node: fx.Node, module: fx.GraphModule) -> Layer | None:
    given = bind(node)
    names = list(given)
    weight = _named(given[names[1]])
    if weight is None or not isinstance(given[names[0]], fx.Node) or fetch(module, weight).dim() != 2:
        return None
    inputs = fetch(module, weight).shape[0]
    return Layer(node, given[names[0]], weight, None, transposed=True, inputs=inputs)


def _conv(node: fx.Node, module: fx.GraphModule) -> Layer | None:
    given = bind(node)
    weight = _named(given["weight"])
    if weight is None or not isinstance(given["input"], fx.Node):
        return None
    kernel = tuple(fetch(module, weight).shape[2:])
    stride, dilation = (_each(given[name], len(kernel)) for name in ("stride", "dilation"))
    if given["padding"] == "same":
        totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        padding = tuple((t // 2, t - t // 2) for t in totals)
    elif given["padding"] == "valid":
        padding = ((0, 0),) * len(kernel)
    else:
        padding = tuple((p, p) for p in _each(given["padding"], len(kernel)))
    return Layer(
        node, given["input"], weight, _named(given["bias"]), given["groups"], -1 - len(kernel),
        inputs=fetch(module, weight)[0].numel(), window=Window(kernel, stride, dilation, padding),
    )  # fmt: skip


def _each(value: Any, count: int) -> tuple[int, ...]:
    found = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    return found * count if len(found) == 1 else found


LAYERS: Mapping[str, Callable[[fx.Node, fx.GraphModule], Layer | None]] = {
    "aten::linear": _linear,
    "aten::addmm": _addmm,
    "aten::matmul": _matmul,
    "aten::mm": _matmul,
    "aten::conv1d": _conv,
    "aten::conv2d": _conv,
    "aten::conv3d": _conv,
}
