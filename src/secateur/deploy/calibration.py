"""Calibration data: a few hundred samples of the training inputs, by name, as the quantiser reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from secateur.deploy.inputs import batch_size, map_tensors, named_inputs
from secateur.errors import DataError, NotFinite
from secateur.task import Inputs, split_batch


def calibration_inputs(loader: Iterable[Any], samples: int = 256) -> list[Inputs]:
    """The inputs of the first batches of a loader, ``samples`` of them at most, targets left out.

    Raises:
        DataError: the loader is empty, or a batch has no known form.
    """
    taken: list[Inputs] = []
    count = 0
    for batch in loader:
        inputs, _ = split_batch(batch)
        if batch_size(inputs) > samples - count:
            inputs = _first(inputs, samples - count)
        taken.append(inputs)
        count += batch_size(inputs)
        if count >= samples:
            break
    if not taken:
        raise DataError("calibration needs at least one batch; the loader gave none")
    return taken


def named_feeds(batches: Iterable[Inputs], model: Any, samples: int) -> list[dict[str, np.ndarray]]:
    """Calibration batches by input name, cut to the batch of an ONNX model whose batch is fixed."""
    weights = {value.name for value in model.graph.initializer}
    wanted = [value for value in model.graph.input if value.name not in weights]
    axis = wanted[0].type.tensor_type.shape.dim[0]
    fixed = axis.dim_value if axis.HasField("dim_value") else None
    return feeds_for(batches, [value.name for value in wanted], fixed, samples)


def feeds_for(
    batches: Iterable[Inputs], names: Sequence[str], fixed: int | None, samples: int
) -> list[dict[str, np.ndarray]]:
    """Calibration batches by the ``names`` of a model's inputs, in pieces of its batch where that is ``fixed``."""
    feeds: list[dict[str, np.ndarray]] = []
    count = 0
    for inputs in batches:
        tensors = named_inputs(inputs)
        size = batch_size(inputs)
        step = fixed or size
        for start in range(0, size - step + 1, step):
            feeds.append({name: _array(name, tensors, start, step) for name in names})
            count += step
            if count >= samples:
                return feeds
    if not feeds:
        raise DataError("calibration needs at least one whole batch; none was given")
    return feeds


class FeedReader:
    """What ``quantize_static`` reads from: each feed in turn, then ``None``; ``rewind`` starts again."""

    def __init__(self, feeds: list[dict[str, np.ndarray]]) -> None:
        self._feeds = feeds
        self.rewind()

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._turn, None)

    def rewind(self) -> None:
        self._turn: Iterator[dict[str, np.ndarray]] = iter(self._feeds)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._turn = iter(self._feeds[start_index:end_index])

    def __len__(self) -> int:
        return len(self._feeds)


def _first(inputs: Inputs, samples: int) -> Inputs:
    shorter: Inputs = map_tensors(lambda t: t[:samples], inputs)
    return shorter


def _array(name: str, tensors: dict[str, Tensor], start: int, step: int) -> np.ndarray:
    if name not in tensors:
        raise DataError(f"calibration batches lack the input {name!r}; they have {sorted(tensors)}")
    array = tensors[name][start : start + step].detach().cpu().numpy()
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise NotFinite(f"calibration batches hold NaN or infinity in the input {name!r}; check the data")
    return np.ascontiguousarray(array)
