"""One file per recovery that holds all it takes to go on: replaced as a whole after each epoch.

Model, best state and optimiser are tensors of one safetensors file, and everything else is JSON in its header, so
nothing is unpickled and the file is either the old one or the new one. Random states need no place in it: each
epoch seeds its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from secateur.errors import CorruptFile
from secateur.files import whole_file
from secateur.recovery.state import State

NAME = "recovery.safetensors"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The point after an epoch. ``facts`` is plain data; ``key`` says which recovery it belongs to."""

    key: str
    model: State
    best: State
    optimizer: dict[int, dict[str, Any]]
    facts: dict[str, Any]


def save(folder: Path, point: Checkpoint) -> None:
    """Writes the checkpoint in one atomic step.

    Raises:
        RunFolderError: the folder cannot be written to.
    """
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    plain: dict[str, dict[str, Any]] = {}
    for part, state in (("model", point.model), ("best", point.best)):
        tensors |= {f"{part}/{name}": tensor for name, tensor in state.items()}
    for index, values in point.optimizer.items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{index}/{name}"] = value
            else:
                plain.setdefault(str(index), {})[name] = value
    header = {"key": point.key, "facts": point.facts, "optimizer": plain}
    ready = {name: t.detach().to("cpu").contiguous().clone() for name, t in tensors.items()}
    with whole_file(folder / NAME) as path:
        save_file(ready, str(path), metadata={"recovery": json.dumps(header)})


def load(folder: Path, key: str) -> Checkpoint | None:
    """The checkpoint of this recovery, or nothing if there is none, or one of another recovery.

    Raises:
        CorruptFile: the file is truncated or was altered.
    """
    from safetensors import safe_open

    path = folder / NAME
    if not path.exists():
        return None
    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {})["recovery"])
            if header["key"] != key:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # not a dict: it has no items
    except Exception as error:
        raise CorruptFile(
            f"{path} is truncated or was altered; delete it to start this recovery anew"
        ) from error
    optimizer: dict[int, dict[str, Any]] = {int(i): dict(v) for i, v in header["optimizer"].items()}
    states: dict[str, State] = {"model": {}, "best": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition("/")
        if part == "optimizer":
            index, _, entry = rest.partition("/")
            optimizer.setdefault(int(index), {})[entry] = tensor
        else:
            states[part][rest] = tensor
    return Checkpoint(key, states["model"], states["best"], optimizer, header["facts"])


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[int, dict[str, Any]]) -> None:
    """Puts the saved moments back into an optimiser built over the same parameters, in their layout in memory."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, values in state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameters[index].shape:
                values[name] = torch.empty_like(parameters[index], dtype=value.dtype).copy_(value)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
