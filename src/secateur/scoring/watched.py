"""A model at work: what its layers with weights read and give, and the places where gradients are taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, fx

from secateur.coupling import Group, Member
from secateur.data import batch_size
from secateur.graph import Graph, Layer, flat_inputs
from secateur.scoring.record import Run
from secateur.task import Inputs


def state_of(tensors: Mapping[str, Tensor], run: Run) -> dict[str, Tensor]:
    """What a program reads, by name: the weights given, and copies of the model's buffers."""
    own = dict(run.model.named_buffers(remove_duplicate=False))
    buffers = {n: own.get(n, b).clone() for n, b in run.groups.graph.module.named_buffers()}
    return buffers | {n: t.detach() for n, t in tensors.items()}


def at_units(group: Group, layers: Sequence[tuple[Layer, Tensor, Tensor]]) -> list[Tensor]:
    """Values of channels, ``[..., C]``, as values of a group's units: ``[..., units, multiplicity]`` for each layer.

    Args:
        layers: each with values of what it reads, and of what it gives. Those that read the units count; where none
            does, the first that makes them.
    """
    found = []
    for member in group.members:
        for layer, read, _ in layers if member.consumes else ():
            if layer.weight == member.param and on_inputs(member, layer):
                each = read.unflatten(-1, (layer.groups, -1))[
                    ..., member.positions
                ]  # [..., G, units, multiplicity]
                found.append(each.movedim(-3, -1).flatten(-2))
    if found:
        return found
    for member in group.members:
        for layer, _, given in layers:
            if layer.weight == member.param and not on_inputs(member, layer):
                return [given[..., member.positions]]
    return []


def on_inputs(member: Member, layer: Layer) -> bool:
    """Whether a member stands on the inputs of a layer's weight."""
    return member.axis == (0 if layer.transposed else 1)


class Watched(fx.Interpreter):
    """The program, which keeps what its layers read and gave; each output is a place to take gradients at."""

    def __init__(
        self,
        graph: Graph,
        state: Mapping[str, Tensor],
        layers: Mapping[fx.Node, Layer],
        gradients: bool = True,
    ) -> None:
        super().__init__(graph.module)
        self.traced, self.state, self.layers, self.gradients = graph, state, layers, gradients
        self.read: dict[fx.Node, Tensor] = {}
        self.given: dict[fx.Node, Tensor] = {}

    def outputs(self, inputs: Inputs) -> Any:
        """Runs the program on inputs of any form."""
        found = self.run(*flat_inputs(self.traced, inputs), enable_io_processing=False)
        return self.traced.module.graph._codegen.process_outputs(found)

    def run_on(self, inputs: Inputs) -> int:
        """Runs the program, and says on how many samples."""
        self.outputs(inputs)
        return batch_size(inputs)

    def run_node(self, n: fx.Node) -> Any:
        """One node; a layer's output is handed on as a copy, since what comes after may write to it."""
        if n.op == "get_attr" and str(n.target) in self.state:
            return self.state[str(n.target)]
        if n not in self.layers:
            return super().run_node(n)
        if not self.gradients:
            self.read[n] = self.env[self.layers[n].input].clone()
            result = super().run_node(n)
            self.given[n] = result.clone()
            return result
        source, held = self.layers[n].input, self.env[self.layers[n].input]
        self.read[n] = self.env[source] = (
            held.clone() if held.requires_grad else held.clone().requires_grad_(True)
        )
        self.given[n] = super().run_node(n)
        self.env[source] = held
        return self.given[n].clone()
