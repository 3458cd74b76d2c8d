"""Shrink: channels that were zeroed by others are removed physically, and the network computes what it did.

A unit can go if all weights that read it are zero, or if all that make it are: it is then a constant, which is found
by running the model on different inputs and handed to the bias of each layer that reads it, or to the batch norm
after that. Where a constant cannot be handed over exactly (a padded convolution sees it inside and zeros at the
border) the unit stays, and the reason is kept. The result is compared with the model as it was.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from secateur.coupling import Group, Groups, Mixing, find_groups
from secateur.errors import NotVerified
from secateur.graph import Layer, fetch, layer_of, mean_after, trace
from secateur.planning import Plan, plan_of
from secateur.sparsity.torch_prune import permanent
from secateur.surgery import Cut, cut_groups, relative_error
from secateur.task import Inputs

TOLERANCE = 1e-4


@dataclass(frozen=True)
class Shrunk:
    """A model without the channels that did nothing.

    Args:
        model: smaller, a graph module in evaluation mode.
        plan: what was kept, in terms of the original.
        removed: units taken out of each group.
        kept: units that do nothing and had to stay, with the reason: ``{group: {reason: units}}``.
        error: largest relative difference of an output from the model's as it was.
        cut: the graph form beside the original.
    """

    model: fx.GraphModule
    plan: Plan
    removed: Mapping[str, int]
    kept: Mapping[str, Mapping[str, int]]
    error: float
    cut: Cut


def shrink(model: nn.Module, example_inputs: Inputs) -> Shrunk:
    """Removes channels, neurons and heads whose weights are zero. The model is not changed.

    Masks of ``torch.nn.utils.prune`` are read as they act: there is no need to make them permanent before.

    Args:
        model: any module that ``torch.export`` takes.
        example_inputs: as for :func:`secateur.trace`.

    Raises:
        InputError: from tracing.
        NotVerified: the smaller model gives something else than the model did; nothing is returned.
    """
    groups = find_groups(trace(permanent(model), example_inputs))
    found = _Constants(groups)
    dead: list[int] = []
    removed: dict[str, int] = {}
    kept: dict[str, dict[str, int]] = {}
    for group in groups:
        units, reasons = found.idle(group)
        if reasons:
            kept[group.name] = reasons
        if len(units) == group.units:
            units = units[1:]  # no axis may become empty
        if len(units):
            removed[group.name] = len(units)
            dead.extend(group.atoms[units].tolist())
    gone = np.array(dead, dtype=np.int64)
    plan = plan_of(groups, gone)
    cut = cut_groups(groups, plan)
    found.hand_over_(cut, groups.coupling.alive(gone))
    error = _error(groups, cut.module)
    if not error <= TOLERANCE:
        raise NotVerified(
            f"the shrunk model differs from the model as it was: relative error {error:.3g}, at most {TOLERANCE:g} "
            "accepted; please report the model. sc.prune(...) removes units by a plan of its own"
        )
    return Shrunk(cut.module, plan, removed, kept, error, cut)


def _error(groups: Groups, small: fx.GraphModule) -> float:
    graph = groups.graph
    with torch.no_grad():
        results = [m(*_copies(graph.args), **_copies(dict(graph.kwargs))) for m in (small, graph.module)]
    got, wanted = (pytree.tree_leaves(r) for r in results)
    pairs = [(a, b) for a, b in zip(got, wanted, strict=True) if isinstance(a, Tensor)]
    return max((relative_error(a, b) for a, b in pairs), default=0.0)


def _copies(values: Any) -> Any:
    return pytree.tree_map(lambda v: v.clone() if isinstance(v, Tensor) else v, values)


class _Constants:
    """What every layer of a program reads, channel by channel, where that is the same for all inputs."""

    def __init__(self, groups: Groups) -> None:
        self.groups, self.module = groups, groups.graph.module
        nodes = groups.graph.nodes
        self.layers = [found for n in nodes if (found := layer_of(n, self.module)) is not None]
        self.values = self._seen()
        own = {layer.node for layer in self.layers}
        mixings = groups.coupling.facts.mixings
        self.restricted = self._atoms(m for m in mixings if m.restricts)
        self.multiplied = self._atoms(m for m in mixings if not m.restricts and m.node not in own)

    def _atoms(self, mixings: Iterable[Mixing]) -> frozenset[int]:
        found = [self.groups.coupling.pairs(m.labels)[1].tolist() for m in mixings]
        return frozenset(itertools.chain.from_iterable(found))

    def _seen(self) -> dict[fx.Node, Tensor]:
        """For each layer ``[channels]``: what it reads where that is constant, NaN elsewhere."""
        low: dict[fx.Node, Tensor] = {}
        high: dict[fx.Node, Tensor] = {}
        for inputs in _different(self.groups):
            watched = _Watching(self.module, self.layers)
            with torch.no_grad():
                watched.run(*inputs, enable_io_processing=False)
            for layer, x in watched.read.items():
                flat = x.movedim(layer.channel, -1).flatten(0, -2)
                smallest, largest = flat.amin(0), flat.amax(0)
                known = layer.node in low
                low[layer.node] = torch.minimum(low[layer.node], smallest) if known else smallest
                high[layer.node] = torch.maximum(high[layer.node], largest) if known else largest
        return {
            n: torch.where(
                (high[n] - low[n]).abs() <= 1e-6 * high[n].abs(), (low[n] + high[n]) / 2, torch.nan
            )
            for n in low
        }

    def idle(self, group: Group) -> tuple[np.ndarray, dict[str, int]]:
        """Units that can go, and how many that do nothing have to stay, by the reason."""
        unread, unmade = self._zero(group, consumes=True), self._zero(group, consumes=False)
        out, reasons = [], dict[str, int]()
        for unit in np.nonzero(unread | unmade)[0].tolist():
            atom, reason = int(group.atoms[unit]), ""
            if atom in self.restricted:
                reason = "a norm, mean or softmax runs over it"
            elif atom in self.multiplied:
                reason = "values are multiplied with each other along it"
            if not reason and not unread[unit]:
                reason = next(
                    (r for r in (self._obstacle(*at) for at in self._readings(group, unit)) if r), ""
                )
            if reason:
                reasons[reason] = reasons.get(reason, 0) + 1
            else:
                out.append(unit)
        return np.array(out, dtype=np.int64), reasons

    def _zero(self, group: Group, consumes: bool) -> np.ndarray:
        """bool ``[units]``: whether all weights that read the units, or all that make them, are zero."""
        found = []
        for member in group.members:
            weight = self.groups.graph.tensor(member.param)
            if weight.dim() < 2 or member.consumes != consumes:
                continue
            lives = (weight.detach().movedim(member.axis, 0).flatten(1) != 0).any(1).cpu().numpy()
            found.append(~lives[member.positions].any(axis=1))
        return np.all(found, axis=0) if found else np.zeros(group.units, dtype=bool)

    def _readings(self, group: Group, unit: int) -> list[tuple[Layer, Tensor]]:
        """Layers that read a unit, and the inputs that it is among theirs: int64, of the ``K`` of a group."""
        out = []
        for member in group.members:
            for layer in self.layers if member.consumes else ():
                if layer.weight == member.param and member.axis == (0 if layer.transposed else 1):
                    out.append((layer, torch.from_numpy(member.positions[unit])))
        return out

    def _obstacle(self, layer: Layer, places: Tensor) -> str:
        """Why the constant that a layer reads in these places cannot be handed over; empty if it can."""
        width = len(self.values[layer.node]) // layer.groups
        each = self.values[layer.node].reshape(layer.groups, width)[:, places]
        if each.isnan().any():
            return "it is not the same for all inputs"
        if not each.any():
            return ""
        if layer.window is not None and any(a or b for a, b in layer.window.padding):
            return "it is a constant that a padded convolution reads, whose border sees zeros"
        if layer.bias is None and mean_after(layer) is None:
            return "it is a constant, and a layer that reads it has no bias to take it"
        return ""

    def hand_over_(self, cut: Cut, alive: np.ndarray) -> None:
        """Adds to the biases of the cut program what its layers do not read any more."""
        coupling, sizes = self.groups.coupling, cut.sizes
        for layer in self.layers:
            weight = self.groups.graph.tensor(layer.weight).detach()
            axis = coupling.state_axes[layer.weight][0 if layer.transposed else 1]
            lost = torch.from_numpy(~alive[coupling.classes(axis)]).to(weight.device)
            values = self.values[layer.node].reshape(layer.groups, -1).nan_to_num()
            if not lost.any() or not values[:, lost].any():
                continue
            matrix = layer.matrix(weight).unflatten(1, (len(lost), -1)).sum(2)  # [G, channels, O]
            shift = torch.einsum("gc,gco->go", values * lost, matrix).reshape(-1)
            outputs = coupling.state_axes[layer.weight][1 if layer.transposed else 0]
            shift = shift[sizes.indices(outputs).to(shift.device)]
            with torch.no_grad():
                if layer.bias is not None:
                    fetch(cut.module, layer.bias).add_(shift)
                elif (mean := mean_after(layer)) is not None:
                    fetch(cut.module, mean).sub_(shift)


class _Watching(fx.Interpreter):
    """The program, which keeps what its layers read."""

    def __init__(self, program: fx.GraphModule, layers: Sequence[Layer]) -> None:
        super().__init__(program)
        self.layers = {layer.node: layer for layer in layers}
        self.read: dict[Layer, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        """One node; what comes later may write over what was read."""
        if n in self.layers:
            layer = self.layers[n]
            self.read[layer] = self.env[layer.input].clone()
        return super().run_node(n)


def _different(groups: Groups) -> list[list[Any]]:
    """The example inputs, and others of the same kind: a unit that is the same for both is a constant, given that its
    weights say so."""
    graph = groups.graph
    own = pytree.tree_leaves((graph.args, dict(graph.kwargs)))
    generator = torch.Generator().manual_seed(0)

    def other(value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        noise = torch.randn(value.shape, generator=generator).to(value.device, value.dtype)
        return noise * (value.std() if value.numel() > 1 else 1.0) + value.flip(-1)

    return [_copies(own), [other(v) for v in own]]
