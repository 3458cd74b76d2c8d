"""Everything a run works with, put together once and only read afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import nn

from secateur.bench import Device, Effort, default_threads
from secateur.cost import BoundCost, Macs, Params
from secateur.coupling import Groups, find_groups
from secateur.data import Data, Evaluation, evaluate
from secateur.deploy import Target
from secateur.graph import trace
from secateur.pipeline.criteria import made
from secateur.pipeline.folder import RunFolder
from secateur.planning import Allocator, Global, Rounding, Ties, Uniform
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
    labelled: bool = True

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
        """The recipe's criterion, or what ``auto`` was settled on."""
        settled = self.folder.journal.steps.get("criterion")
        return self.recipe.criterion if settled is None else CriterionOptions(**settled["chosen"])

    @cached_property
    def scores(self) -> Scores:
        """Saliencies of the dense model, kept in the run's folder: a run that goes on does not score again."""
        file = self.folder.root / "scores.safetensors"
        if file.exists():
            return load_scores(file, self.groups)
        found = scored(self, self.model, self.groups)
        save_scores(found, file)
        return found

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
    if hasattr(
        job.data.train, "set_epoch"
    ):  # else what was read before would decide, and a resumed run differ
        job.data.train.set_epoch(0)
    return score(model, groups, made(options or job.criterion, job.recipe.seed), job.data.train, job.task)


def regroup(job: Job, model: nn.Module) -> Groups:
    """Groups of a model that was cut before."""
    return find_groups(trace(model, job.example), free_outputs=job.recipe.free_outputs)


def points_lost(task: Task, dense: float, now: float) -> float:
    """How many points of the metric were lost (negative: gained). One point is 0.01."""
    return (dense - now if task.higher_is_better else now - dense) * 100.0
