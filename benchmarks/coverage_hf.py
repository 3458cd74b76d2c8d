"""Hugging Face models from small configurations: tiny widths, several layers, several heads, a head for the task.

An entry is a class of transformers, the configuration that makes it small, and the inputs that a user gives it.
Nothing is downloaded. The tables stand by subject in ``coverage_hf_*.py``.
"""

from __future__ import annotations

import warnings

import coverage_hf_decoders
import coverage_hf_encoders
import coverage_hf_pairs
import coverage_hf_vision
import torch
from coverage_hf_entry import Entry
from torch import Tensor, nn
from torchvision_operators import define
from zoo_models import randomise

from secateur.task import Inputs

ENTRIES: dict[str, Entry] = {
    **coverage_hf_encoders.ENTRIES,
    **coverage_hf_decoders.ENTRIES,
    **coverage_hf_pairs.ENTRIES,
    **coverage_hf_vision.ENTRIES,
}


def names() -> list[str]:
    """All models, by the short names of the tables."""
    return list(ENTRIES)


def build(name: str) -> tuple[nn.Module, Inputs]:
    """A model with random weights, in evaluation mode, and keyword inputs of batch two."""
    define()  # before transformers, whose vision models import torchvision
    import transformers

    entry = ENTRIES[name]
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kind = getattr(transformers, entry.model)
        config = getattr(transformers, entry.config_class) if entry.config_class else kind.config_class
        model: nn.Module = kind(config(**entry.config))
    if entry.part:
        model = model.get_submodule(entry.part)
    if entry.lifted:
        lift(model)
    randomise(model)
    return (Only(model, entry.returns) if entry.returns else model).eval(), entry.inputs()


class Only(nn.Module):
    """A model of which only some outputs are wanted: the others would lock the streams they show."""

    def __init__(self, model: nn.Module, wanted: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.wanted = model, wanted

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """The outputs wanted, by name."""
        outputs = self.model(**inputs)
        return {name: outputs[name] for name in self.wanted}


def lift(model: nn.Module) -> None:
    """Brings matrices to a spread of one over the root of their inputs.

    The usual 0.02 leaves branches of a narrow network next to nothing, and its attention even.
    """
    with torch.no_grad():
        for tensor in model.parameters():
            if tensor.dim() > 1 and tensor.numel() > 1:
                spread = float(tensor.std())
                if spread > 0:
                    tensor.mul_(tensor[0].numel() ** -0.5 / spread)
                else:
                    tensor.normal_(0.0, tensor[0].numel() ** -0.5)
