"""Everything a run works with, put together once and only read afterwards."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import nn

from secateur.bench import Device, Effort, default_threads
from secateur.cost import BoundCost, Macs, Params
from secateur.coupling import Groups, find_groups, remove_blocks
from secateur.data import Data, Evaluation, evaluate
from secateur.deploy import Target
from secateur.graph import trace
from secateur.pipeline.criteria import made
from secateur.pipeline.folder import RunFolder
from secateur.planning import (
    Allocator,
    Global,
    Plan,
    Rounding,
    Ties,
    Uniform,
    dead_atoms,
    without_removed,
)
from secateur.recipe import CriterionOptions, Recipe
from secateur.scoring import Scores, load_scores, save_scores, score
from secateur.task import Inputs, Task


@dataclass(frozen=True)
class Costs:
    """Parameters and multiply-adds of one traced program, for any choice of what lives."""

    params: BoundCost
    macs: BoundCost

    @classmethod
    def of(cls, groups: Groups) -> Costs:
        """The two costs of a program's groups."""
        return cls(Params(groups.graph).bind(groups), Macs(groups.graph).bind(groups))


@dataclass(frozen=True)
class Job:
    """A run's inputs.

    Args:
        recipe: what was asked.
        model: the dense model, the user's own; only read.
        data: training, held-out and evaluation batches.
        task: loss and metric.
        folder: where records go.
        target: runtime and dtype.
        example: example inputs.
        groups: of the dense model.
        quiet: no progress.
        device: where latency is measured; this machine unless a test says otherwise.
        ties: between widths, where the user's own class is to hold the result.
        removed: names of blocks that go whole, before any width is cut.
        labelled: whether the data have targets; without, ``data`` holds example inputs alone.
    """

    recipe: Recipe
    model: nn.Module
    data: Data
    task: Task
    folder: RunFolder
    target: Target
    example: Inputs
    groups: Groups
    quiet: bool
    device: Device | None = None
    ties: Ties | None = None
    removed: tuple[str, ...] = ()
    labelled: bool = True

    @cached_property
    def start(self) -> Groups:
        """The dense model's groups without the blocks that go whole."""
        return remove_blocks(self.groups, self.removed)

    @cached_property
    def costs(self) -> Costs:
        """Costs of the dense model."""
        return Costs.of(self.groups)

    @cached_property
    def everything(self) -> np.ndarray:
        """bool ``[labels]``: the dense model, of which all lives."""
        return np.ones(self.groups.coupling.facts.size, dtype=bool)

    @cached_property
    def dense_counts(self) -> dict[str, float]:
        """Parameters and multiply-adds of the dense model."""
        return {"params": self.costs.params.of(self.everything), "macs": self.costs.macs.of(self.everything)}

    @property
    def criterion(self) -> CriterionOptions:
        """The recipe's criterion, or what ``auto`` was settled on; before that, the usual one."""
        settled = self.folder.journal.steps.get("criterion")
        if settled is not None:
            return CriterionOptions(**settled["chosen"])
        options = self.recipe.criterion
        return replace(options, name=CriterionOptions().name) if options.name == "auto" else options

    @cached_property
    def scores(self) -> Scores:
        """Saliencies of the dense model's units, without those of blocks that go whole; kept in the run's folder, so
        that no later plan, and no run that goes on, scores again."""
        if self.scores_file.exists():
            return load_scores(self.scores_file, self.start)
        found = scored(self, self.model, self.start)
        save_scores(found, self.scores_file)
        return found

    @property
    def scores_file(self) -> Path:
        """Where the saliencies are kept: a file for each choice of blocks that go whole."""
        names = hashlib.sha256("\n".join(self.removed).encode()).hexdigest()[:12]
        return self.folder.root / "scores" / f"{f'without-{names}' if self.removed else 'whole'}.safetensors"

    @cached_property
    def held_out(self) -> Evaluation:
        """The dense model on held-out training data: what losses of quality are measured from."""
        return evaluate(self.model, self.data.select, self.task)

    @property
    def has_batch_norm(self) -> bool:
        """Whether the program reads running statistics."""
        return any(name.endswith("running_mean") for name in self.groups.graph.state_names())

    @property
    def threads(self) -> int:
        """Threads of the runtime."""
        return self.recipe.threads or default_threads()

    @property
    def allocator(self) -> Allocator:
        """The recipe's allocator."""
        return Global() if self.recipe.allocator == "global" else Uniform()

    @property
    def rounding(self) -> Rounding:
        """The recipe's rounding."""
        return Rounding(self.recipe.multiple)

    @property
    def effort(self) -> Effort:
        """How long a comparison is measured."""
        return Effort(width=self.recipe.measure.width, seconds=self.recipe.measure.seconds)

    def ties_in(self, groups: Groups) -> Ties | None:
        """The ties that concern a model's groups."""
        return None if self.ties is None else self.ties.among({g.name for g in groups})

    def say(self, line: str) -> None:
        """One line of progress."""
        if not self.quiet:
            from rich.console import Console

            Console(stderr=True, highlight=False).print(line, markup=False, soft_wrap=True)


def scored(job: Job, model: nn.Module, groups: Groups, options: CriterionOptions | None = None) -> Scores:
    """Scores a model with the run's criterion, or another, on training data in the same order every time."""
    if hasattr(job.data.train, "set_epoch"):
        job.data.train.set_epoch(0)  # or what was read before would decide, and a resumed run differ
    return score(model, groups, made(options or job.criterion, job.recipe.seed), job.data.train, job.task)


def left_by(job: Job, plan: Plan) -> tuple[Groups, np.ndarray]:
    """The dense model's groups without the blocks that a plan removes, and which labels live, bool ``[labels]``."""
    groups = without_removed(job.groups, plan)
    return groups, groups.coupling.alive(dead_atoms(groups, plan))


def counts(job: Job, plan: Plan | None) -> dict[str, int]:
    """Parameters and multiply-adds of the dense model, or of what a plan leaves of it."""
    if plan is None:
        return {kind: round(value) for kind, value in job.dense_counts.items()}
    groups, alive = left_by(job, plan)
    costs = Costs.of(groups)
    return {"params": round(costs.params.of(alive)), "macs": round(costs.macs.of(alive))}


def regroup(job: Job, model: nn.Module) -> Groups:
    """Groups of a model that was cut before."""
    return find_groups(trace(model, job.example), free_outputs=job.recipe.free_outputs)


def points_lost(task: Task, dense: float, now: float) -> float:
    """How many points of the metric were lost (negative: gained). One point is 0.01."""
    return (dense - now if task.higher_is_better else now - dense) * 100.0
