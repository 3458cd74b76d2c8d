"""Loaders whose order depends on a seed and an epoch number alone.

A user's ``DataLoader`` is rebuilt over a part of its samples with everything else kept: batch size, collation,
workers, custom samplers (filtered to the part). Other re-iterables of batches are filtered batch by batch.
A data set or collation that augments may offer ``plain()``, which returns itself without augmentation; the held-out
and calibration parts use it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler

from secateur.data.seeding import mixed
from secateur.errors import DataError


class EpochLoader:
    """A ``DataLoader`` in an order given by ``(seed, epoch)``; every pass moves on by one epoch.

    ``set_epoch`` (the protocol of torch's ``DistributedSampler``) returns to any of them.
    """

    def __init__(self, loader: DataLoader[Any], generator: torch.Generator, seed: int) -> None:
        self.loader, self.generator, self.seed, self.epoch = loader, generator, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of the next pass."""
        self.epoch = epoch
        samplers: tuple[Any, ...] = (self.loader.sampler, self.loader.batch_sampler)
        for sampler in samplers:
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[Any]:
        self.generator.manual_seed(mixed(self.seed, self.epoch))
        self.epoch += 1
        return iter(self.loader)

    def __len__(self) -> int:
        return len(self.loader)


class SomeBatches:
    """The batches of a re-iterable at the given positions, in its own order."""

    def __init__(self, batches: Iterable[Any], positions: Iterable[int]) -> None:
        self.batches, self.positions = batches, frozenset(positions)

    def __iter__(self) -> Iterator[Any]:
        return (batch for i, batch in enumerate(self.batches) if i in self.positions)

    def __len__(self) -> int:
        return len(self.positions)


class _Kept:
    """A custom sampler or batch sampler, restricted to some samples of the data set."""

    def __init__(self, sampler: Iterable[Any], kept: frozenset[int]) -> None:
        self.sampler, self.kept = sampler, kept

    def set_epoch(self, epoch: int) -> None:
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[Any]:
        for item in self.sampler:
            if isinstance(item, (list, tuple)):
                if part := [i for i in item if int(i) in self.kept]:
                    yield part
            elif int(item) in self.kept:
                yield item


class _Ordered:
    """Sample indices of a part, in the order given or shuffled by a generator."""

    def __init__(self, indices: Sequence[int], generator: torch.Generator | None) -> None:
        self.indices, self.generator = list(indices), generator

    def __iter__(self) -> Iterator[int]:
        if self.generator is None:
            return iter(self.indices)
        order = torch.randperm(len(self.indices), generator=self.generator).tolist()
        return (self.indices[i] for i in order)

    def __len__(self) -> int:
        return len(self.indices)


def is_map_style(loader: Any) -> bool:
    """Whether this is a ``DataLoader`` over a data set with indices and a length."""
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, torch.utils.data.IterableDataset):
        return False
    return isinstance(loader.dataset, Sized) and hasattr(loader.dataset, "__getitem__")


def training_part(loader: DataLoader[Any], indices: Sequence[int], seed: int) -> EpochLoader:
    """The user's training loader over some samples: his sampling, in an order given by the seed."""
    generator = torch.Generator()
    if _custom_batches(loader):
        kept = _Kept(loader.batch_sampler or (), frozenset(indices))
        return EpochLoader(_rebuild(loader, generator, batch_sampler=_Counted(kept)), generator, seed)
    sampler: Any
    if _shuffles(loader):
        sampler = _Ordered(indices, generator)
    elif isinstance(loader.sampler, SequentialSampler):
        sampler = _Ordered(sorted(indices), None)
    else:
        sampler = _Counted(_Kept(loader.sampler, frozenset(indices)))
    size = loader.batch_size or 1
    # A last batch of one sample breaks batch norm in training; a part smaller than a batch must not vanish.
    count = len(sampler)
    drop_last = (loader.drop_last and count >= size) or (count > size > 1 and count % size == 1)
    built = _rebuild(loader, generator, sampler=sampler, batch_size=loader.batch_size, drop_last=drop_last)
    return EpochLoader(built, generator, seed)


def plain_part(loader: DataLoader[Any], indices: Sequence[int] | None, seed: int) -> EpochLoader:
    """Some (default: all) samples in fixed order, nothing dropped, augmentation off where it can be."""
    generator = torch.Generator()
    dataset, collate = _plain(loader.dataset), _plain(loader.collate_fn)
    if indices is None:
        if _custom_batches(loader):
            return EpochLoader(
                _rebuild(loader, generator, dataset, collate, batch_sampler=loader.batch_sampler),
                generator,
                seed,
            )
        if not (_shuffles(loader) or isinstance(loader.sampler, SequentialSampler)):
            built = _rebuild(
                loader, generator, dataset, collate, sampler=loader.sampler, batch_size=loader.batch_size
            )
            return EpochLoader(built, generator, seed)
        indices = range(len(loader.dataset))  # type: ignore[arg-type]
    # Held-out samples of a custom batch sampler are batched by their number: the shapes may need its grouping.
    if _custom_batches(loader):
        kept = _Kept(loader.batch_sampler or (), frozenset(indices))
        frozen = [list(batch) for batch in kept]
        return EpochLoader(
            _rebuild(loader, generator, dataset, collate, batch_sampler=frozen), generator, seed
        )
    built = _rebuild(
        loader, generator, dataset, collate, sampler=_Ordered(indices, None), batch_size=loader.batch_size
    )
    return EpochLoader(built, generator, seed)


class _Counted(_Kept):
    """A restricted sampler with a length, counted once (a sampler's own length knows nothing of the restriction)."""

    def __init__(self, inner: _Kept) -> None:
        super().__init__(inner.sampler, inner.kept)
        self._count = sum(1 for _ in inner)

    def __len__(self) -> int:
        return self._count


def _custom_batches(loader: DataLoader[Any]) -> bool:
    return loader.batch_sampler is not None and (
        loader.batch_size is None or type(loader.batch_sampler) is not BatchSampler
    )


def _shuffles(loader: DataLoader[Any]) -> bool:
    sampler = loader.sampler
    if not isinstance(sampler, RandomSampler) or sampler.replacement:
        return False
    return sampler.num_samples == len(loader.dataset)  # type: ignore[arg-type]


def _rebuild(
    loader: DataLoader[Any],
    generator: torch.Generator,
    dataset: Any = None,
    collate: Callable[..., Any] | None = None,
    **sampling: Any,
) -> DataLoader[Any]:
    workers = loader.num_workers
    if workers:
        sampling |= {
            "prefetch_factor": loader.prefetch_factor,
            "persistent_workers": loader.persistent_workers,
        }
        sampling |= {"multiprocessing_context": loader.multiprocessing_context}
    return DataLoader(
        loader.dataset if dataset is None else dataset,
        num_workers=workers,
        collate_fn=loader.collate_fn if collate is None else collate,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        generator=generator,
        **sampling,
    )


def _plain(value: Any) -> Any:
    return value.plain() if callable(getattr(value, "plain", None)) else value


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Every tensor of a nest of tuples, lists and dicts, in order (dicts by sorted key)."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield from tensors_in(value[key])
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)


def batch_size(value: Any) -> int:
    """Samples in a batch, inputs or target: the length of axis 0 of its first tensor with axes.

    Raises:
        DataError: there is no tensor with axes in it.
    """
    for tensor in tensors_in(value):
        if tensor.ndim:
            return int(tensor.shape[0])
    if isinstance(value, (list, tuple)) and value:
        return len(value)
    raise DataError(
        f"a batch must hold tensors with the batch as axis 0; got {type(value).__name__} without any"
    )


def slice_batch(value: Any, start: int, stop: int) -> Any:
    """The samples ``start`` to ``stop`` of a batch, of inputs or of a target, in the same nest."""
    if isinstance(value, Tensor):
        return value[start:stop] if value.ndim else value
    if isinstance(value, Mapping):
        return {k: slice_batch(v, start, stop) for k, v in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(slice_batch(v, start, stop) for v in value))
    if isinstance(value, (tuple, list)):
        return type(value)(slice_batch(v, start, stop) for v in value)
    return value
