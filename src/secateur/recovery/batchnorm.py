"""Batch-norm recalibration: the statistics of the cut network, measured on training batches.

After a cut the running statistics describe activations that no longer occur. They are replaced by the average over
some batches (a cumulative average, as in EagleEye, Li et al. 2020), which costs a few forward passes and no
training. It works on the operator that the model runs and not on module classes, so a network in graph form is
treated like any other; everything else (dropout) stays in evaluation mode.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from secateur.data import Data, device_of, evaluate, mixed, reseed, restore_modes, seeded, training_modes
from secateur.recovery.recoverer import Recoverer, Recovery, Setting
from secateur.recovery.state import put, taken, worse
from secateur.task import Task, call, split_batch, to_device


@dataclass(frozen=True)
class RecalibrateBatchNorm(Recoverer):
    """Measures the statistics of every batch norm anew.

    Args:
        batches: training batches to average over.
        keep_best: go back to the old statistics if the new ones do worse on the held-out part.
    """

    batches: int = 50
    keep_best: bool = True

    def recover_(self, model: nn.Module, data: Data, task: Task, setting: Setting) -> Recovery:
        started = time.perf_counter()
        device = device_of(model)
        before, old = evaluate(model, data.select, task), taken(model)
        modes = training_modes(model)
        measured = _Measured([b for b in model.buffers() if b.is_floating_point()])
        steps = 0
        try:
            model.eval()
            if hasattr(data.train, "set_epoch"):
                data.train.set_epoch(mixed(setting.seed, 0) % 2**31)
            with torch.no_grad(), seeded(setting.seed, device):
                reseed(mixed(setting.seed, 0))
                for batch in itertools.islice(iter(data.train), self.batches):
                    inputs, _ = to_device(split_batch(batch), device)
                    with measured:
                        call(model, inputs)
                    steps += 1
                    if not measured.found:
                        break
            measured.write_()
        finally:
            restore_modes(modes)
        after = evaluate(model, data.select, task)
        if not measured.found or (self.keep_best and worse(after, before, task)):
            put(model, old)
            after = before
        kept = 1 if after is not before else 0
        seconds = time.perf_counter() - started
        return Recovery("batchnorm", before.metric, after.metric, kept, (), steps, seconds)


class _Measured(TorchDispatchMode):
    """Lets every batch norm use the statistics of its batch, and averages these by the buffer they belong to."""

    def __init__(self, buffers: list[Tensor]) -> None:
        super().__init__()
        self.buffers = {b.data_ptr(): b for b in buffers if b.numel()}
        self.found: dict[int, tuple[Tensor, Tensor, Tensor, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        places = _OPERATORS.get(func)
        if places is None or kwargs:
            return func(*args, **kwargs)
        x, weight, bias, mean, variance, eps = (args[i] for i in places)
        if mean is None or mean.data_ptr() not in self.buffers or x.numel() // x.shape[1] < 2:
            return func(*args, **kwargs)
        batch_mean, batch_variance = torch.zeros_like(mean), torch.ones_like(variance)
        out, _, _ = torch.ops.aten.native_batch_norm.default(
            x, weight, bias, batch_mean, batch_variance, True, 1.0, eps
        )
        self._add(mean, variance, batch_mean, batch_variance)
        return (out, *(x.new_empty(0) for _ in range(_OUTPUTS.get(func, 3) - 1)))

    def _add(self, mean: Tensor, variance: Tensor, batch_mean: Tensor, batch_variance: Tensor) -> None:
        key = mean.data_ptr()
        if key not in self.found:
            buffer = self.buffers.get(variance.data_ptr(), variance)
            self.found[key] = (buffer, batch_mean, batch_variance, 1)
            return
        buffer, old_mean, old_variance, count = self.found[key]
        count += 1
        self.found[key] = (
            buffer,
            old_mean + (batch_mean - old_mean) / count,
            old_variance + (batch_variance - old_variance) / count,
            count,
        )

    def write_(self) -> None:
        """Writes the averages into the model's buffers."""
        for key, (variance_buffer, mean, variance, _) in self.found.items():
            self.buffers[key].copy_(mean)
            variance_buffer.copy_(variance)


_aten = torch.ops.aten
# operator -> places of (input, weight, bias, running mean, running variance, eps) among its arguments
_OPERATORS: dict[Any, tuple[int, int, int, int, int, int]] = {
    _aten.native_batch_norm.default: (0, 1, 2, 3, 4, 7),
    _aten.cudnn_batch_norm.default: (0, 1, 2, 3, 4, 7),
    _aten.miopen_batch_norm.default: (0, 1, 2, 3, 4, 7),
    _aten._native_batch_norm_legit.default: (0, 1, 2, 3, 4, 7),
    _aten._native_batch_norm_legit_no_training.default: (0, 1, 2, 3, 4, 6),
    _aten._batch_norm_with_update.default: (0, 1, 2, 3, 4, 6),
    _aten._batch_norm_no_update.default: (0, 1, 2, 3, 4, 6),
}
_OUTPUTS = {
    _aten.cudnn_batch_norm.default: 4,
    _aten._batch_norm_with_update.default: 4,
    _aten._batch_norm_no_update.default: 4,
}
