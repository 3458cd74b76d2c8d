"""What a model shows at work: the Gram matrices of what its layers read, and how much the loss minds their outputs.

The program runs on some inputs. Each layer's input is summed up in its second moments; the gradient at its output
tells by how much the loss rises with an error there. The gradient is that of labels drawn from what the model itself
predicts, so that its mean square is the Fisher information and no labels are needed; for outputs that are no class
scores, that of a Gaussian around them, whose width is the outputs' own spread.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from secateur.data import batch_size
from secateur.errors import DataError
from secateur.graph import Layer, layer_of
from secateur.scoring.drawn import drawn_loss
from secateur.scoring.record import Run
from secateur.scoring.taylor import small_batches
from secateur.scoring.watched import Watched, state_of
from secateur.task import logits, split_batch, to_device

SIZE = 32
ROWS = 30  # for each input of a layer, at least


@dataclass
class Seen:
    """One layer at work.

    Args:
        layer: which.
        gram: float64 ``[G, K, K]``, about the mean: what is constant, a bias takes.
        cost: float64 ``[G, O]``: the curvature of the loss of a sample in each output, all positions together.
        read: float64 ``[N, channels]``: input, about its mean, times gradient of each sample, summed over positions.
        given: float64 ``[N, G * O]``: the same of the output, as it is.
    """

    layer: Layer
    gram: Tensor = field(default_factory=lambda: torch.zeros(()))
    cost: Tensor = field(default_factory=lambda: torch.zeros(()))
    read: Tensor = field(default_factory=lambda: torch.zeros(()))
    given: Tensor = field(default_factory=lambda: torch.zeros(()))


def witness(tensors: Mapping[str, Tensor], run: Run, samples: int, rows: int, seed: int) -> list[Seen]:
    """Every layer with weights of the program, seen on some inputs.

    Args:
        tensors: the weights, by name.
        run: program, batches and task.
        samples: inputs at most.
        rows: positions that a Gram matrix is made of, at most (more where the layer has many inputs).
        seed: of the positions and the labels.

    Raises:
        DataError: there are no batches.
    """
    program = run.groups.graph.module
    layers = {n: found for n in program.graph.nodes if (found := layer_of(n, program)) is not None}
    state = state_of(tensors, run)
    generator = torch.Generator().manual_seed(seed)
    sums = {n: _Sums(x, -(-max(rows, ROWS * x.inputs) // samples), generator) for n, x in layers.items()}
    count = 0
    for batch in _first(small_batches(run.batches or (), SIZE), samples):
        inputs, _ = split_batch(to_device(batch, next(iter(tensors.values())).device))
        watched = Watched(run.groups.graph, state, layers)
        outputs, size = logits(watched.outputs(inputs)), batch_size(inputs)
        loss = drawn_loss(run.task, outputs, generator)
        nodes = [n for n in layers if n in watched.given]
        places = [watched.read[n] for n in nodes] + [watched.given[n] for n in nodes]
        gradients = torch.autograd.grad(loss, places, allow_unused=True)
        each = [torch.zeros_like(p) if g is None else g for p, g in zip(places, gradients, strict=True)]
        for node, above, below in zip(nodes, each, each[len(nodes) :], strict=False):
            x, y = watched.read[node].detach(), watched.given[node].detach()
            sums[node].add(size, x, y, above, below)
        count += size
    if not count:
        raise DataError("no batches to score on: the data set is empty")
    return [s.seen() for s in sums.values() if s.count]


def _first(batches: Iterator[Any], samples: int) -> Iterator[Any]:
    return itertools.islice(batches, -(-samples // SIZE))


class _Sums:
    """Sums over batches for one layer.

    Args:
        layer: which.
        rows: positions for each sample.
        generator: of their choice.
    """

    def __init__(self, layer: Layer, rows: int, generator: torch.Generator) -> None:
        self.layer, self.rows, self.generator = layer, rows, generator
        self.count, self.samples = 0, 0
        self.read: list[Tensor] = []
        self.given: list[Tensor] = []

    def add(self, size: int, x: Tensor, y: Tensor, above: Tensor, gradient: Tensor) -> None:
        """Takes in one batch of ``size`` samples: what the layer read and gave, and the gradients there."""
        layer = self.layer
        every = layer.positions(y)
        wanted = max(1, self.rows * size)
        picks = torch.arange(every)
        if wanted < every:
            picks = torch.randint(every, (wanted,), generator=self.generator)
        read = layer.read(x, picks).double()
        gram = (
            torch.einsum("pgk,pgl->gkl", read, read)
            if layer.groups > 1
            else (read[:, 0].T @ read[:, 0])[None]
        )
        channels = gradient.movedim(layer.channel, -1)
        curved = channels.double().pow(2).flatten(0, -2).sum(0)
        last = x.movedim(layer.channel, -1)
        about = last - last.flatten(0, -2).mean(0)
        self.read.append(_each_sample(about * above.movedim(layer.channel, -1), size))
        self.given.append(_each_sample((y * gradient).movedim(layer.channel, -1), size))
        if not self.count:
            self.gram, self.sum, self.curved = gram, read.sum(0), curved
        else:
            self.gram, self.sum, self.curved = self.gram + gram, self.sum + read.sum(0), self.curved + curved
        self.count += len(picks)
        self.samples += size

    def seen(self) -> Seen:
        """The means."""
        mean = self.sum / self.count
        gram = self.gram / self.count - mean[:, :, None] * mean[:, None, :]
        cost = (self.curved / self.samples).reshape(self.layer.groups, -1)
        return Seen(self.layer, gram, cost, torch.cat(self.read), torch.cat(self.given))


def _each_sample(products: Tensor, size: int) -> Tensor:
    """``[size, C]`` of ``[..., C]``: the sum over the positions of each sample.

    Samples are counted by the first axis that has as many places, or stand in blocks along the first axis, as windows
    of an image do; where neither is so, all places are taken for one sample.
    """
    places = products.shape[:-1]
    axis = next((i for i, n in enumerate(places) if n == size), None)
    if axis is not None:
        products = products.movedim(axis, 0)
    elif not places or places[0] % size:
        return (
            products.double().reshape(-1, products.shape[-1]).sum(0, keepdim=True).expand(size, -1)
            / size**0.5
        )
    return products.double().reshape(size, -1, products.shape[-1]).sum(1)
