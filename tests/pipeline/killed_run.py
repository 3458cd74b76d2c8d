"""A run in a process of its own, killed with SIGKILL at a chosen call of the loss or of the journal."""

from __future__ import annotations

import os
import random
import signal
import sys

import torch.nn.functional as F

from secateur.bench import FakeDevice
from secateur.pipeline import compress
from secateur.pipeline.journal import Journal
from secateur.planning import Budget
from secateur.task import Task, accuracy
from tests.pipeline import small


def main(out: str, where: str, count: int, measured: bool) -> None:
    """Runs; with ``where`` = loss or journal, dies at the ``count``-th call.

    ``measured`` asks for a latency budget, on a device that never answers the same twice.
    """
    calls = {"loss": 0, "journal": 0}

    def tick(kind: str) -> None:
        calls[kind] += 1
        if kind == where and calls[kind] == count:
            os.kill(os.getpid(), signal.SIGKILL)

    def loss(outputs, target):  # type: ignore[no-untyped-def]
        tick("loss")
        return F.cross_entropy(outputs, target)

    step = Journal.step

    def counted(self, name, work, *args):  # type: ignore[no-untyped-def]
        def first(*inner):  # type: ignore[no-untyped-def]
            outcome = work(*inner)
            tick("journal")  # after the work, before its line is written
            return outcome

        return step(self, name, first, *args)

    Journal.step = counted  # type: ignore[method-assign]
    task = Task(loss, accuracy, labels=("a", "b", "c", "d"), name="accuracy")
    budget = Budget(latency="0.6x", drop=90.0) if measured else Budget(macs="0.4x", drop=90.0)
    noise = random.Random()
    unsteady = FakeDevice(lambda entry, turn: entry.path.stat().st_size / 1e4 * noise.uniform(0.99, 1.01))
    compress(
        small.network(),
        (small.batches(), small.batches(4, seed=2)),
        recipe=small.recipe(budget),
        out=out,
        task=task,
        device=unsteady if measured else small.device(),
        quiet=True,
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:] == ["measured"])
