"""Inputs and outputs by name, as runtimes know them.

A tensor is called ``input``, the tensors of a tuple ``input_0``, ``input_1``, ..., those of a dict by their keys; and
likewise for outputs, with the keys of a mapping such as a ``ModelOutput``. What is no tensor is a constant of the
exported program. The names depend on the form alone, so an artifact can be fed without the model that it came from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from secateur.errors import InputError
from secateur.task import Inputs


def named_tensors(value: Any, base: str) -> dict[str, Tensor]:
    """The tensors in a nest of tuples, lists and mappings, by name, in the order in which they are flattened."""
    if isinstance(value, Tensor):
        return {base: value}
    found: dict[str, Tensor] = {}
    if isinstance(value, Mapping):
        for key, item in value.items():
            found.update(named_tensors(item, str(key)))
    elif isinstance(value, (tuple, list)):
        for index, item in enumerate(value):
            found.update(named_tensors(item, f"{base}_{index}"))
    return found


def named_inputs(inputs: Inputs) -> dict[str, Tensor]:
    """The tensors of ``inputs`` by name.

    Raises:
        InputError: there is no tensor in them.
    """
    found = named_tensors(inputs, "input")
    if not found:
        raise InputError(f"inputs hold no tensor; got {type(inputs).__name__}")
    return found


def batch_size(inputs: Inputs) -> int:
    """Length of axis 0, which every tensor of ``inputs`` shares.

    Raises:
        InputError: a tensor has no axis 0, or the lengths differ.
    """
    sizes = {name: (t.shape[0] if t.ndim else None) for name, t in named_inputs(inputs).items()}
    if None in sizes.values() or len(set(sizes.values())) != 1:
        raise InputError(f"axis 0 of every input tensor is the batch; got the sizes {sizes}")
    return int(next(iter(sizes.values())) or 0)


def map_tensors(function: Callable[[Tensor], Any], value: Any) -> Any:
    """``value`` with ``function`` applied to every tensor in it; everything else stays."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: map_tensors(function, item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(map_tensors(function, item) for item in value)
    return value


def at_least_two(inputs: Inputs) -> Inputs:
    """``inputs`` with a batch of 1 repeated to 2: an axis of size 1 is taken for a constant when exporting."""
    if batch_size(inputs) != 1:
        return inputs
    repeated: Inputs = map_tensors(lambda t: torch.cat([t, t]), inputs)
    return repeated
