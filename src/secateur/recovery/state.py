"""The state of a model as a dict of tensors: taken, put back, named and hashed.

Parameters and every buffer (also those that ``state_dict`` leaves out), each tensor once, so that tied weights
stay tied.
"""

from __future__ import annotations

import hashlib
import itertools

import torch
from torch import Tensor, nn

from secateur.data import Evaluation
from secateur.task import Task

State = dict[str, Tensor]


def live(model: nn.Module) -> State:
    """The model's own tensors by name."""
    return dict(itertools.chain(model.named_parameters(), model.named_buffers()))


def taken(model: nn.Module) -> State:
    """A copy of the state."""
    return {name: tensor.detach().clone() for name, tensor in live(model).items()}


def put(model: nn.Module, state: State) -> None:
    """Writes a state back, in place."""
    with torch.no_grad():
        for name, tensor in live(model).items():
            tensor.copy_(state[name])


def worse(after: Evaluation, before: Evaluation, task: Task) -> bool:
    """Whether a state does worse than another: by the metric, and by the loss where that is the same."""
    sign = 1.0 if task.higher_is_better else -1.0
    return (sign * after.metric, -after.loss) < (sign * before.metric, -before.loss)


def digest(model: nn.Module) -> str:
    """SHA-256 over names, types, shapes and values."""
    total = hashlib.sha256()
    for name, tensor in live(model).items():
        flat = tensor.detach().to("cpu").contiguous().reshape(-1)
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} {tensor.requires_grad};".encode())
        total.update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return total.hexdigest()
