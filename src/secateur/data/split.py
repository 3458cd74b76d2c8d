"""The seeded split: a training part and a held-out part to choose on, both from the training data.

A ``DataLoader`` over a data set with indices is split by samples; anything else that can be read again and again
is split by batches (a single batch by its samples). The evaluation loader is put in a fixed order, so that two
evaluations can be compared sample by sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from secateur.data.check import batches_of, check_loader
from secateur.data.loaders import (
    EpochLoader,
    SomeBatches,
    batch_size,
    is_map_style,
    plain_part,
    slice_batch,
    tensors_in,
    training_part,
)
from secateur.data.seeding import seeded
from secateur.errors import DataError
from secateur.task import Inputs, split_batch


@dataclass(frozen=True)
class Data:
    """Everything a run reads.

    Args:
        train: batches to train on and to compute scores with.
        select: batches held out of the training data; everything that is chosen is chosen on them.
        evaluate: the user's evaluation batches, in fixed order; they only record.
        calibration: inputs of training samples, in batches, fixed: for quantisers and statistics.
        labels: names of the classes, if known.
        seed: of the split and of the order of ``train``.
    """

    train: Iterable[Any]
    select: Iterable[Any]
    evaluate: Iterable[Any]
    calibration: tuple[Inputs, ...]
    labels: tuple[str, ...] | None = None
    seed: int = 0

    @property
    def example_inputs(self) -> Inputs:
        """Inputs of one batch, with at most two samples: enough to trace a model with."""
        first = self.calibration[0]
        return slice_batch(first, 0, min(2, batch_size(first)))


def split_data(
    train: Any,
    evaluate: Any,
    *,
    labels: Sequence[str] | None = None,
    seed: int = 0,
    held_out: float = 0.1,
    most: int = 5000,
    calibration: int = 256,
) -> Data:
    """Splits the training data and gathers the calibration inputs.

    Args:
        train, evaluate: a ``DataLoader`` or another re-iterable of batches each.
        labels: names of the classes.
        seed: the same seed gives the same split and the same order, on any machine.
        held_out: share of the training data that is held out; at least about one batch.
        most: largest number of samples to hold out.
        calibration: number of training samples whose inputs are kept.

    Raises:
        DataError: a loader is missing, empty, can be read only once, shuffles in a way that cannot be repeated,
            holds batches of the wrong form, or holds NaN.
    """
    if not 0 < held_out < 1:
        raise DataError(f"the held-out share must lie between 0 and 1; got {held_out}")
    for name, loader in (("training data", train), ("evaluation data", evaluate)):
        if loader is not None and hasattr(loader, "__next__"):
            raise DataError(
                f"the {name} can be read only once (a generator); give a DataLoader or a list of batches"
            )
        check_loader(loader, name, batches=1)
    fixed = plain_part(evaluate, None, seed) if is_map_style(evaluate) else evaluate
    if is_map_style(train):
        parts = _by_samples(train, seed, held_out, most, calibration)
    else:
        parts = _by_batches(train, seed, held_out, most)
    with seeded(seed):
        inputs = _inputs(parts[2], calibration)
    return Data(parts[0], parts[1], fixed, inputs, tuple(labels) if labels is not None else None, seed)


def _by_samples(
    loader: Any, seed: int, share: float, most: int, calibration: int
) -> tuple[EpochLoader, EpochLoader, EpochLoader]:
    count = len(loader.dataset)
    if count < 2:
        raise DataError(
            "the training data hold one sample; at least two are needed, one to train on and one to choose on"
        )
    size = loader.batch_size or 1
    held = min(most, max(round(share * count), min(size, count // 5), 1))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    chosen, rest = sorted(order[:held]), order[held:]
    return (
        training_part(loader, rest, seed),
        plain_part(loader, chosen, seed),
        plain_part(loader, rest[:calibration], seed),
    )


def _by_batches(loader: Any, seed: int, share: float, most: int) -> tuple[Any, Any, Any]:
    if not isinstance(loader, Sequence) and not _repeats(loader):
        raise DataError(
            "the training data come in another order each time, so that no part can be held out: give a DataLoader "
            "over a data set with indices, or a list of batches"
        )
    sizes = [batch_size(split_batch(batch)[0]) for batch in batches_of(loader, "training data")]
    if len(sizes) == 1:
        return _one_batch(loader, share, most)
    order = torch.randperm(len(sizes), generator=torch.Generator().manual_seed(seed)).tolist()
    chosen, samples = order[:1], sizes[order[0]]
    for i in order[1:-1]:
        if samples >= share * sum(sizes) or samples + sizes[i] > most:
            break
        chosen.append(i)
        samples += sizes[i]
    rest = SomeBatches(loader, set(order) - set(chosen))
    return rest, SomeBatches(loader, chosen), rest


def _one_batch(loader: Any, share: float, most: int) -> tuple[Any, Any, Any]:
    (batch,) = batches_of(loader, "training data")
    count = batch_size(split_batch(batch)[0])
    if count < 2:
        raise DataError(
            "the training data hold one sample; at least two are needed, one to train on and one to choose on"
        )
    held = min(most, max(1, round(share * count)))
    train = [slice_batch(batch, held, count)]
    return train, [slice_batch(batch, 0, held)], train


def _repeats(loader: Any) -> bool:
    first, second = (next(iter(loader)) for _ in range(2))
    pairs = list(zip(tensors_in(first), tensors_in(second), strict=False))
    return bool(pairs) and all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)


def _inputs(loader: Iterable[Any], samples: int) -> tuple[Inputs, ...]:
    gathered: list[Inputs] = []
    missing = samples
    for batch in loader:
        if missing <= 0:
            break
        inputs, _ = split_batch(batch)
        size = batch_size(inputs)
        gathered.append(inputs if size <= missing else slice_batch(inputs, 0, missing))
        missing -= size
    return tuple(gathered)
