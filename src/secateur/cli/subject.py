"""The model that a command looks at, with inputs to trace it.

Inputs come from the data, from ``--input``, or from what the model's own package says about it (timm's configuration,
the dummy inputs of transformers, the samples that a ``.pt2`` file carries).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from secateur.cli.datasets import Loaders, resolve_data
from secateur.cli.models import resolve_model
from secateur.cli.options import assignments, free_outputs_from, json_arguments, shape_from
from secateur.coupling import Groups, find_groups
from secateur.errors import DataError, RecipeError
from secateur.graph import trace
from secateur.task import Inputs, split_batch


@dataclass(frozen=True)
class Subject:
    """What the options of a command name.

    Args:
        model: name of the model; ``model_args``, ``weights``, ``pretrained`` as on the command line.
        input: a shape, as text.
        data, data_option: the data, by name, and their options.
        free_outputs: outputs that may get narrower, as text.
    """

    model: str
    model_args: str | None = None
    weights: Path | None = None
    pretrained: bool = False
    input: str | None = None
    data: str | None = None
    data_option: list[str] | None = None
    free_outputs: list[str] | None = None

    def groups(self) -> Groups:
        """The model's groups; see :meth:`loaded`."""
        return self.loaded()[0]

    def loaded(self) -> tuple[Groups, Loaders | None]:
        """The model's groups, and the data if they were named.

        Raises:
            RequestError: the model, the data or the inputs cannot be used; the message says which and why.
        """
        arguments, shape = json_arguments(self.model_args), shape_from(self.input) if self.input else None
        options, free = assignments(self.data_option, "--data-option"), free_outputs_from(self.free_outputs)
        model = resolve_model(self.model, arguments, self.weights, self.pretrained)
        loaders = resolve_data(self.data, options) if self.data else None
        graph = trace(model, example_inputs(model, self.model, shape, loaders))
        return find_groups(graph, free_outputs=free), loaders


def example_inputs(
    model: nn.Module, name: str, shape: tuple[int, ...] | None, loaders: Loaders | None = None
) -> Inputs:
    """Inputs to trace a model with: random ones of a shape, else of the data, else what its package says.

    Raises:
        RecipeError: nothing says what the model takes.
        DataError: the data are empty.
    """
    if shape is not None:
        return torch.randn(shape, generator=torch.Generator().manual_seed(0))
    if loaders is not None:
        return _first_inputs(loaders)
    found = _own_inputs(model, name)
    if found is None:
        raise RecipeError(
            f"nothing says what inputs {name} takes; give --input SHAPE (such as 1,3,224,224) or --data"
        )
    return found


def _first_inputs(loaders: Loaders) -> Inputs:
    from secateur.data import batch_size, slice_batch

    for batch in loaders.train:
        inputs, _ = split_batch(batch)
        first: Inputs = slice_batch(inputs, 0, min(2, batch_size(inputs)))
        return first
    raise DataError("the training data are empty; inputs are needed to trace the model")


def _own_inputs(model: nn.Module, name: str) -> Inputs | None:
    if name.endswith(".pt2"):
        from secateur.deploy import load_pt2

        return load_pt2(Path(name)).example_inputs
    config = getattr(model, "default_cfg", None)
    size = config.get("input_size") if isinstance(config, Mapping) else None
    if size is None and name.startswith("torchvision:"):
        size = (3, 299, 299) if "inception" in name else (3, 224, 224)
    if size is not None:
        return torch.randn(1, *size, generator=torch.Generator().manual_seed(0))
    dummy: Any = getattr(model, "dummy_inputs", None) if name.startswith("hf:") else None
    if isinstance(dummy, Mapping) and dummy and all(isinstance(v, Tensor) for v in dummy.values()):
        return dict(dummy)
    return None
