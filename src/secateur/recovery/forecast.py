"""What training will take here: a few steps are made on a copy, and timed."""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Iterable, Sized
from typing import Any

import numpy as np
import torch
from torch import nn

from secateur.data import device_of, seeded
from secateur.task import Task, call, checked_loss, logits, split_batch, to_device


def epoch_seconds(model: nn.Module, train: Iterable[Any], task: Task, batches: int = 3) -> float | None:
    """Seconds of one epoch of fine-tuning; None where the loader does not tell its length or is empty.

    The model and the random state are as before. The first batch warms up, and counts only if it is alone.

    Args:
        model: as it will be trained.
        train: training batches.
        task: its loss is differentiated.
        batches: how many are timed.

    Raises:
        DataError, TaskError: from the data and the task.
    """
    length = len(train) if isinstance(train, Sized) else 0
    if not length:
        return None
    twin = copy.deepcopy(model).train()
    device = device_of(twin)
    times = []
    with seeded(0, device), torch.enable_grad():
        for batch in itertools.islice(iter(train), batches + 1):
            start = time.perf_counter()
            inputs, target = to_device(split_batch(batch), device)
            checked_loss(task, logits(call(twin, inputs)), target).backward()
            times.append(time.perf_counter() - start)
            twin.zero_grad(set_to_none=True)
    return float(np.median(times[1:] or times)) * length
