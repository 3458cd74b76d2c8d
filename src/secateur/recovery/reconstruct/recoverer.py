"""Reconstruction as a recoverer, and by itself, on a few hundred inputs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from secateur.data import (
    Data,
    batch_size,
    device_of,
    evaluate,
    mixed,
    reseed,
    restore_modes,
    seeded,
    slice_batch,
    training_modes,
)
from secateur.errors import DataError, InputError
from secateur.graph import flat_inputs
from secateur.recovery.reconstruct.layerwise import Layerwise, Solved
from secateur.recovery.reconstruct.walk import peak_bytes
from secateur.recovery.recoverer import Recoverer, Recovery, Setting
from secateur.recovery.state import put, taken, worse
from secateur.surgery import Cut, Pruned
from secateur.task import Inputs, Task, split_batch, to_device

SIZE = 64
LEAST = 4  # batches, so that how far to trust the inputs is told from others than they were fitted on
MASK = "attention_mask"


@dataclass(frozen=True)
class Reconstruction:
    """What a reconstruction did.

    Args:
        solved: the layers, in the order of the program.
        skipped: weights that were left as they are, with the reason.
        samples: how many inputs were used.
        seconds: spent.
    """

    solved: tuple[Solved, ...]
    skipped: Mapping[str, str]
    samples: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The record as plain data."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Reconstruct(Recoverer):
    """Solves the weights of a cut model again, layer by layer; for the model that ``cut`` holds, and no other.

    Args:
        cut: from :func:`secateur.surgery.cut_groups`.
        samples: training inputs to use, at most.
        rows: positions that a layer is fitted on, at most (more where it has many inputs).
        memory: bytes that the activations may take; fewer inputs are used where they would take more.
        keep_best: go back to the weights that the cut left if the new ones do worse on the held-out part.
    """

    cut: Cut
    samples: int = 1024
    rows: int = 30_000
    memory: int = 4 << 30
    keep_best: bool = True

    def recover_(self, model: nn.Module, data: Data, task: Task, setting: Setting) -> Recovery:
        started = time.perf_counter()
        if model is not self.cut.module:
            raise InputError("Reconstruct(cut) is for the model of that cut; give recover_(cut.module, ...)")
        before, old = evaluate(model, data.select, task), taken(model)
        if hasattr(data.train, "set_epoch"):
            data.train.set_epoch(mixed(setting.seed, 0) % 2**31)
        with seeded(setting.seed, device_of(model)):
            reseed(mixed(setting.seed, 0))
            inputs = (split_batch(batch)[0] for batch in data.train)
            done = reconstruct_(
                self.cut, inputs, samples=self.samples, rows=self.rows, memory=self.memory, seed=setting.seed
            )
        after = evaluate(model, data.select, task)
        if self.keep_best and worse(after, before, task):
            put(model, old)
            after = before
        kept = 1 if after is not before else 0
        seconds = time.perf_counter() - started
        return Recovery("reconstruct", before.metric, after.metric, kept, (), done.samples, seconds)


def reconstruct_(
    cut: Cut | Pruned,
    inputs: Iterable[Inputs],
    *,
    samples: int = 1024,
    rows: int = 30_000,
    memory: int = 4 << 30,
    seed: int = 0,
) -> Reconstruction:
    """Solves the weights of a cut model again in closed form, in place: no labels, no gradients, a minute or less.

    Args:
        cut: what :func:`secateur.prune` returned (in either form), or :func:`secateur.surgery.cut_groups`.
        inputs: batches of the model's inputs, without targets. Positions that an ``attention_mask`` hides do not count.
        samples: inputs to use, at most.
        rows: positions that a layer is fitted on, at most (more where it has many inputs).
        memory: bytes that the activations may take; fewer inputs are used where they would take more.
        seed: of the choice of positions.

    Raises:
        DataError: there are no inputs.
        InputError: the model is on the meta device.
    """
    started = time.perf_counter()
    owner = cut.model if isinstance(cut, Pruned) and cut.form == "module" else None
    own = cut.cut if isinstance(cut, Pruned) else cut
    graph = own.prepared.groups.graph
    if graph.shapes_alone:
        raise InputError("the model is on the meta device and has no weights to solve; load them first")
    device = device_of(own.module)
    limit = max(1, min(samples, memory // max(1, 2 * peak_bytes(graph.module, graph.batch))))
    batches = [to_device(b, device) for b in some_batches(inputs, limit)]
    if not batches:
        raise DataError("there are no inputs to reconstruct on: the data set is empty")
    modes = training_modes(own.module)
    own.module.eval()
    try:
        with torch.no_grad():
            run = Layerwise(
                own, [flat_inputs(graph, b) for b in batches], [counting(b) for b in batches], rows, seed
            )
            solved, skipped = run.run()
    finally:
        restore_modes(modes)
    if owner is not None:
        _hand_over(own.module, owner)
    used = sum(batch_size(b) for b in batches)
    return Reconstruction(tuple(solved), skipped, used, time.perf_counter() - started)


def some_batches(inputs: Iterable[Inputs], limit: int) -> Iterator[Inputs]:
    """The first ``limit`` samples, in batches of at most ``SIZE``, and in several where there are enough samples."""
    size = max(1, min(SIZE, limit // LEAST))
    left = limit
    for batch in inputs:
        for start in range(0, batch_size(batch), size):
            if left <= 0:
                return
            stop = min(batch_size(batch), start + size, start + left)
            yield slice_batch(batch, start, stop)
            left -= stop - start


def counting(inputs: Inputs) -> Tensor | None:
    """Which positions of a text count, bool ``[N, L]``; None where the inputs do not say."""
    found = inputs.get(MASK) if isinstance(inputs, Mapping) else None
    return found.bool() if isinstance(found, Tensor) else None


def _hand_over(graph: nn.Module, owner: nn.Module) -> None:
    """The same weights in the user's own class, whose tensors have the same names."""
    held = dict(owner.named_parameters(remove_duplicate=False)) | dict(
        owner.named_buffers(remove_duplicate=False)
    )
    with torch.no_grad():
        for name, tensor in (*graph.named_parameters(), *graph.named_buffers()):
            if name in held and held[name].shape == tensor.shape:
                held[name].copy_(tensor)
