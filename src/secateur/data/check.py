"""What data must be like, checked on a few batches before anything expensive starts.

Labels are compared with the width of the model's output, inputs are searched for NaN and infinity, and every
complaint is one line that names the loader and the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from secateur.data.loaders import batch_size, tensors_in
from secateur.data.seeding import seeded
from secateur.errors import DataError
from secateur.task import split_batch

if TYPE_CHECKING:
    from secateur.data.split import Data

IGNORED = -100  # the index that torch's cross-entropy skips


def check_data(data: Data, classes: int | None = None, batches: int = 4) -> None:
    """Looks at the first batches of each part.

    Args:
        classes: width of the model's output, where targets are class indices.
        batches: how many batches of each part are looked at.

    Raises:
        DataError: a part is empty, a batch has the wrong form, inputs hold NaN or infinity, or a label is out
            of range.
    """
    for name, loader in (("training", data.train), ("held-out", data.select), ("evaluation", data.evaluate)):
        check_loader(loader, f"{name} data", classes, batches)


def check_loader(loader: Any, name: str, classes: int | None = None, batches: int = 4) -> None:
    """The same for one loader. ``name`` stands in the message.

    Raises:
        DataError: as for :func:`check_data`.
    """
    seen = 0
    with seeded(0):
        for i, batch in enumerate(batches_of(loader, name)):
            if i == batches:
                break
            seen += check_batch(batch, f"batch {i} of the {name}", classes)
    if not seen:
        raise DataError(f"the {name} are empty: the loader yields no samples")


def batches_of(loader: Any, name: str) -> Iterator[Any]:
    """The batches of a loader, with its own exceptions told in one line.

    Raises:
        DataError: the loader is missing, cannot be iterated over, or fails while it is read.
    """
    if loader is None:
        raise DataError(f"the {name} are missing: give a DataLoader or a list of batches")
    if isinstance(loader, (str, bytes, Tensor)) or not isinstance(loader, Iterable):
        raise DataError(f"the {name} must be a DataLoader or a list of batches; got {type(loader).__name__}")
    try:
        yield from loader
    except DataError:
        raise
    except Exception as error:
        line = (str(error).strip().splitlines() or ["no message"])[-1]
        raise DataError(f"reading the {name} failed with {type(error).__name__}: {line}") from error


def check_batch(batch: Any, where: str, classes: int | None) -> int:
    """Checks one batch and returns its number of samples.

    Raises:
        DataError: as for :func:`check_data`.
    """
    try:
        inputs, target = split_batch(batch)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    size = batch_size(inputs)
    if isinstance(target, Tensor) and target.ndim and target.shape[0] != size:
        raise DataError(f"{where}: {size} samples but {target.shape[0]} targets")
    for tensor in tensors_in(inputs):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise DataError(f"{where}: the inputs hold NaN or infinity; clean the data first")
    if classes is not None and isinstance(target, Tensor):
        check_targets(target, classes, where)
    return size


def check_targets(target: Tensor, classes: int, where: str = "the batch") -> None:
    """Class indices must lie within the model's output. Shape: any; -100 means "ignored", as in torch.

    Raises:
        DataError: an index is out of range, or the targets are no integers.
    """
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise DataError(f"{where}: class indices must be integers; the targets are {target.dtype}")
    if not target.numel():
        return
    used = target[target != IGNORED]
    if used.numel() and (int(used.min()) < 0 or int(used.max()) >= classes):
        worst = int(used.min()) if int(used.min()) < 0 else int(used.max())
        raise DataError(
            f"{where}: label {worst} is out of range: the model has {classes} outputs, so labels run from 0 "
            f"to {classes - 1}"
        )
