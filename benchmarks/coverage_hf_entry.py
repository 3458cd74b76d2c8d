"""One Hugging Face model of the coverage, and the inputs that several of them share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

VOCABULARY = 96


@dataclass(frozen=True)
class Entry:
    """A model.

    Args:
        model: name of the class in transformers.
        inputs: makes keyword inputs, batch two.
        config: arguments of the configuration.
        config_class: its class, where it is not the model's own.
        part: the submodule that is pruned, where it is not the whole.
        returns: the outputs that are used, where the model gives inner states besides; all if empty.
        lifted: whether matrices are brought to a usual spread; not where the architecture counts on its own.
    """

    model: str
    inputs: Callable[[], dict[str, Any]]
    config: Mapping[str, Any]
    config_class: str = ""
    part: str = ""
    returns: tuple[str, ...] = ()
    lifted: bool = True


def ids(length: int = 10, low: int = 3, seed: int = 1) -> Tensor:
    """Tokens ``[2, length]``; the first few of the vocabulary have special meanings."""
    return torch.randint(low, VOCABULARY, (2, length), generator=torch.Generator().manual_seed(seed))


def mask(length: int = 10, padded: int = 3) -> Tensor:
    """Attention mask ``[2, length]``: the second sample is shorter."""
    found = torch.ones(2, length, dtype=torch.long)
    if padded:
        found[1, -padded:] = 0
    return found


def noise(*shape: int, seed: int = 2) -> Tensor:
    """Standard normal."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tokens() -> dict[str, Any]:
    """A tokenizer's output."""
    return {"input_ids": ids(), "attention_mask": mask()}


def typed() -> dict[str, Any]:
    """A tokenizer's output with segments."""
    types = torch.zeros(2, 10, dtype=torch.long)
    types[:, 5:] = 1
    return {**tokens(), "token_type_ids": types}


def pair() -> dict[str, Any]:
    """Source and target tokens."""
    return {**tokens(), "decoder_input_ids": ids(7, seed=3)}


def images(size: int = 32, channels: int = 3) -> Callable[[], dict[str, Any]]:
    """An image processor's output."""
    return lambda: {"pixel_values": noise(2, channels, size, size)}


def waves(length: int = 1200) -> Callable[[], dict[str, Any]]:
    """A feature extractor's output: raw sound."""
    return lambda: {"input_values": noise(2, length)}
