"""What a layer is to give: not its own output in the dense network, but what comes of it where the network goes on.

A layer's output often passes first through operators that treat each channel by itself, linearly: batch norm with
fixed statistics, a layer scale, dropout at rest. If it is then added to something that is known by then (the residual
stream), the layer is to give what the *sum* is in the dense network, less the other term as it is in the cut one:
each branch makes up for what went wrong in the stream before it (He, Zhang and Sun, "Channel Pruning for Accelerating
Very Deep Neural Networks", ICCV 2017, section 3.2). And if a rectifier follows, what lies below zero need not be met
there, as long as it stays below (Zhang, Zou, He and Sun, "Accelerating Very Deep Convolutional Networks", PAMI 2016,
section 3.2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from secateur.graph import bind, fetch, op_name

FLAT = 1e-4  # channels that a step scales by less than this share of its largest have nothing to say


@dataclass(frozen=True)
class Target:
    """Where a layer's output is compared.

    Args:
        point: the node whose value is to be met: the sum, the last of the steps, or the layer itself.
        steps: calls between the layer and the point (the sum apart), in their order.
        other: the other term of the sum, if the point is one.
        rectified: whether the point is read by a rectifier alone.
    """

    point: fx.Node
    steps: tuple[fx.Node, ...] = ()
    other: fx.Node | None = None
    rectified: bool = False

    def within(self, nodes: Mapping[fx.Node, fx.Node]) -> Target | None:
        """The same in the cut program; None where a part of it is gone."""
        if not {n for n in (self.point, self.other, *self.steps) if n is not None} <= nodes.keys():
            return None
        other = None if self.other is None else nodes[self.other]
        return Target(nodes[self.point], tuple(nodes[s] for s in self.steps), other, self.rectified)


@dataclass(frozen=True)
class Affine:
    """``y * scale + shift`` for each channel: what the steps after a layer do; ``[C]`` each.

    ``speaks`` tells the channels that get through at all.
    """

    scale: Tensor
    shift: Tensor

    @classmethod
    def of(cls, steps: tuple[fx.Node, ...], module: fx.GraphModule, like: Tensor) -> Affine:
        """Of these calls, in a program that they are read in; ``like`` has the channels last."""
        found = cls(torch.ones_like(like), torch.zeros_like(like))
        for step in steps:
            scale, shift = _STEPS[op_name(step)](step, module)
            found = cls(found.scale * scale, found.shift * scale + shift)
        return found

    @property
    def speaks(self) -> Tensor:
        """bool ``[C]``."""
        size = self.scale.abs()
        return size > FLAT * size.max()

    def __call__(self, y: Tensor) -> Tensor:
        return y * self.scale + self.shift

    def back(self, y: Tensor) -> Tensor:
        """The inverse, where the channel speaks."""
        return (y - self.shift) / torch.where(self.speaks, self.scale, 1.0)


def target_of(node: fx.Node, before: Mapping[fx.Node, int], shapes: Mapping[fx.Node, object]) -> Target:
    """Where the output of a layer is compared.

    Args:
        before: the place of each node in the program.
        shapes: of the values of its nodes.
    """
    steps: list[fx.Node] = []
    current = node
    while len(current.users) == 1:
        (user,) = current.users
        if user.op != "call_function":
            break
        name = op_name(user)
        if name in _RECTIFIERS:
            return Target(current, tuple(steps), rectified=True)
        if name in _SUMS:
            other = _other_term(user, current)
            if (
                other is not None
                and shapes.get(other) == shapes.get(current)
                and before[other] < before[node]
            ):
                read = [op_name(u) for u in user.users if u.op == "call_function"]
                rectified = len(read) == len(user.users) == 1 and read[0] in _RECTIFIERS
                return Target(user, tuple(steps), other, rectified)
            break
        if name not in _STEPS or any(n.op != "get_attr" for n in user.all_input_nodes if n is not current):
            break
        steps.append(user)
        current = user
    return Target(node)


def _other_term(total: fx.Node, term: fx.Node) -> fx.Node | None:
    if len(total.args) != 2 or total.kwargs:
        return None
    (other,) = [t for t in total.args if t is not term] or [None]
    return other if isinstance(other, fx.Node) and other.op != "get_attr" else None


def _norm(step: fx.Node, module: fx.GraphModule) -> tuple[Tensor, Tensor]:
    given = bind(step)
    mean, variance, weight, bias = (
        None if given[n] is None else fetch(module, str(given[n].target))
        for n in ("running_mean", "running_var", "weight", "bias")
    )
    assert mean is not None and variance is not None
    scale = (variance + given["eps"]).rsqrt() * (1.0 if weight is None else weight)
    return scale, (0.0 if bias is None else bias) - mean * scale


def _factor(step: fx.Node, module: fx.GraphModule) -> tuple[Tensor, Tensor]:
    names = [a for a in step.args[:2] if isinstance(a, fx.Node) and a.op == "get_attr"]
    factor = fetch(module, str(names[0].target)).reshape(-1) if names else torch.tensor(float(step.args[1]))  # type: ignore[arg-type]
    return factor, torch.zeros_like(factor)


def _nothing(step: fx.Node, module: fx.GraphModule) -> tuple[Tensor, Tensor]:
    return torch.ones(()), torch.zeros(())


_STEPS: Mapping[str, Callable[[fx.Node, fx.GraphModule], tuple[Tensor, Tensor]]] = {
    "aten::batch_norm": _norm,
    "aten::mul": _factor,
    "aten::dropout": _nothing,
    "aten::dropout_": _nothing,
    "aten::clone": _nothing,
    "aten::contiguous": _nothing,
}
_SUMS = frozenset(("aten::add", "aten::add_"))
_RECTIFIERS = frozenset(("aten::relu", "aten::relu_"))
