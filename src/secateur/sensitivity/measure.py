"""Measures curves: each group cut by itself, a few widths, no training; batch-norm statistics follow, if there are any.

A cut without new statistics would show mostly that they are wrong, which costs nothing to mend. Results are kept by
content: the model's weights, the data, the criterion.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from secateur.coupling import Group, Groups, remove_blocks
from secateur.data import Data, Evaluation, batch_size, evaluate, fingerprint
from secateur.errors import DataError
from secateur.files import whole_file
from secateur.planning import Plan, Rounding, plan_of
from secateur.recovery import RecalibrateBatchNorm, Setting, recover_
from secateur.scoring import Scores
from secateur.sensitivity.record import Curve, Sensitivity
from secateur.surgery import cut_groups
from secateur.task import Task, classification, split_batch

KEPT = (0.85, 0.7, 0.5, 0.3, 0.15)


@dataclass(frozen=True)
class Sampling:
    """How finely, and on what.

    Args:
        kept: shares of a group's units that its points keep, falling.
        recalibrate: on how many batches batch-norm statistics are measured after a cut; 0 leaves them.
        blocks: whether removable blocks are taken out one by one as well.
    """

    kept: tuple[float, ...] = KEPT
    recalibrate: int = 4
    blocks: bool = True


def sensitivity(
    scores: Scores,
    batches: Sequence[Any],
    task: Task | None = None,
    *,
    sampling: Sampling | None = None,
    rounding: Rounding | None = None,
    cache: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Sensitivity:
    """Loss and metric against the fraction removed, group by group and block by block, without training.

    Args:
        scores: which units go first.
        batches: labelled calibration data, run once for each point.
        task: classification by default.
        sampling: points of each curve.
        rounding: of the widths at them.
        cache: a folder; points that stand there are not measured again. None keeps nothing.
        say: told a line now and then.

    Raises:
        DataError: there are no batches.
        TaskError, NotFinite: see :func:`secateur.data.evaluate`.
    """
    if not batches:
        raise DataError("sensitivity is measured on batches of data, and there are none")
    task, sampling, groups = task or classification(), sampling or Sampling(), scores.groups
    store = _Store(None if cache is None else cache / f"{_digest(scores, batches, task, sampling)}.jsonl")
    bench = _Bench(batches, task, sampling.recalibrate)
    dense = store.point("dense", lambda: evaluate(groups.graph.module, batches, task))
    curves = []
    for number, group in enumerate(groups):
        say(f"sensitivity of group {number + 1} of {len(groups)}: {group.name}")
        points: list[tuple[int, float, float]] = [(0, *dense)]
        for removed, plan in _plans(scores, group, sampling.kept, rounding or Rounding()):
            found = store.point(f"{group.name} {removed}", partial(bench.cut, groups, plan))
            points.append((removed, *found))
        gone, loss, metric = ([p[i] for p in points] for i in range(3))
        curves.append(Curve(group.name, group.units, tuple(map(int, gone)), tuple(loss), tuple(metric)))
    blocks = {}
    for block in groups.blocks if sampling.blocks else ():
        if not block.locked:
            say(f"sensitivity of {block.name}")
            blocks[block.name] = store.point(
                f"without {block.name}", partial(bench.without, groups, block.name)
            )
    samples = sum(batch_size(split_batch(batch)[0]) for batch in batches)
    return Sensitivity(tuple(curves), blocks, scores.criterion, *dense, samples)


class _Bench:
    """Cuts, lets the statistics follow, and evaluates."""

    def __init__(self, batches: Sequence[Any], task: Task, recalibrate: int) -> None:
        self.batches, self.task, self.recalibrate = batches, task, recalibrate

    def cut(self, groups: Groups, plan: Plan) -> Evaluation:
        model: nn.Module = cut_groups(groups, plan).module
        if self.recalibrate and any(n.endswith("running_mean") for n in groups.graph.state_names()):
            data = Data(
                train=self.batches[: self.recalibrate], select=self.batches[:1], evaluate=(), calibration=()
            )
            recoverer = RecalibrateBatchNorm(batches=self.recalibrate, keep_best=False)
            recover_(model, data, self.task, recoverer, Setting(quiet=True))
        return evaluate(model, self.batches, self.task)

    def without(self, groups: Groups, block: str) -> Evaluation:
        rest = remove_blocks(groups, (block,))
        return self.cut(groups, plan_of(rest, np.empty(0, dtype=np.int64)))


class _Store:
    """Points by name, in a file of JSON lines, each on the disk as soon as it is measured."""

    def __init__(self, file: Path | None) -> None:
        self.file, self.known = file, dict[str, tuple[float, float]]()
        if file is not None and file.exists():
            for line in file.read_text().splitlines():
                try:
                    name, loss, metric = json.loads(line)
                except ValueError:
                    continue  # broken off while it was written
                self.known[name] = (loss, metric)

    def point(self, name: str, measured: Callable[[], Evaluation]) -> tuple[float, float]:
        """Loss and metric."""
        if name not in self.known:
            found = measured()
            self.known[name] = (found.loss, found.metric)
            if self.file is not None:
                with whole_file(self.file) as temporary:
                    lines = [json.dumps([n, *values]) for n, values in self.known.items()]
                    temporary.write_text("\n".join(lines) + "\n")
        return self.known[name]


def _plans(
    scores: Scores, group: Group, kept: Sequence[float], rounding: Rounding
) -> Iterator[tuple[int, Plan]]:
    """Numbers of units removed from one group, the least salient first, and the plans that do it."""
    order = np.argsort(-scores.aligned(group.name), kind="stable")
    seen = {group.units}
    for share in kept:
        width = rounding.nearest(group, share * group.units)
        if width not in seen:
            seen.add(width)
            yield group.units - width, plan_of(scores.groups, group.atoms[order][width:], scores.orders)


def _digest(scores: Scores, batches: Sequence[Any], task: Task, sampling: Sampling) -> str:
    digest = hashlib.sha256()
    for name, tensor in scores.groups.graph.state.items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    digest.update(fingerprint(Data(train=batches, select=(), evaluate=(), calibration=())).encode())
    digest.update(f"{scores.criterion} {task.name} {sampling}".encode())
    return digest.hexdigest()[:24]
