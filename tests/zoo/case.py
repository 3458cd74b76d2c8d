"""One tiny network of the zoo, with what was counted by hand.

Groups are written as ``{name: "units | member member*multiplicity ..."}``, a member being ``parameter:axis``.
Multiply-adds and parameters are written as sums of products, layer by layer, so that they can be checked by eye.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from secateur.coupling import Group, Groups, find_groups
from secateur.graph import trace
from secateur.task import Inputs


@dataclass(frozen=True)
class Case:
    """A network, example inputs and its golden tables.

    Args:
        name: of the case, as it appears in the tests' names.
        build: makes the network, in evaluation mode or not.
        inputs: example inputs for a batch size.
        groups: what can be removed, see the module's docstring.
        params: parameters that the program uses.
        macs: multiply-adds of one sample.
        locks: words that must appear in the reason of a lock, by ``parameter:axis``.
        exact: whether a cut must be equal to the masked original outright (no norm, softmax or mean is cut).
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[int], Inputs]
    groups: Mapping[str, str]
    params: int
    macs: int
    locks: Mapping[str, str] = field(default_factory=dict)
    exact: bool = True

    def model(self) -> nn.Module:
        """The network with every tensor random, so that a wrong cut shows."""
        torch.manual_seed(0)
        model = self.build().eval()
        randomise(model)
        return model

    def found(self, model: nn.Module | None = None, batch: int = 2) -> Groups:
        """The network's groups."""
        return find_groups(trace(self.model() if model is None else model, self.inputs(batch)))


def randomise(model: nn.Module) -> None:
    """Draws norm statistics, norm weights and biases at random: with ones and zeros many mistakes cancel."""
    with torch.no_grad():
        for name, tensor in model.state_dict(keep_vars=True).items():
            if not tensor.is_floating_point():
                continue
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0)
            elif tensor.dim() <= 1:
                tensor.copy_(torch.randn(tensor.shape) * 0.3 + (1.0 if name.endswith("weight") else 0.0))


def written(group: Group) -> str:
    """A group in the notation of the golden tables."""
    members = [
        f"{m.param}:{m.axis}" + (f"*{m.multiplicity}" if m.multiplicity > 1 else "") for m in group.members
    ]
    return f"{group.units} | {' '.join(sorted(members))}"


def golden(table: Mapping[str, str]) -> dict[str, str]:
    """A golden table with its members in the order of :func:`written`."""
    out = {}
    for name, line in table.items():
        units, _, members = line.partition(" | ")
        out[name] = f"{units} | {' '.join(sorted(members.split()))}"
    return out


def images(channels: int = 3, size: int = 8) -> Callable[[int], Tensor]:
    """Random images ``[batch, channels, size, size]``."""
    return lambda batch: torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(1))


def norm(name: str) -> str:
    """The members that a batch norm of this name has."""
    return " ".join(f"{name}.{part}:0" for part in ("weight", "bias", "running_mean", "running_var"))


def affine(name: str) -> str:
    """The members that a layer or group norm of this name has."""
    return f"{name}.weight:0 {name}.bias:0"
