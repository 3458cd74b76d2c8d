"""Scores: a saliency for every unit of every group, and the interface of what computes them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from secateur.coupling import Group, Groups, Member
from secateur.errors import DataError, InputError, NotFinite
from secateur.task import Task, classification


@dataclass(frozen=True)
class Scores:
    """Saliencies: the larger, the more a unit matters.

    Args:
        groups: what was scored.
        values: float64 ``[units]`` for each group's name.
        criterion: the criterion's name and options.
        comparable: whether values of different groups are in one unit (loss, say) and may be ranked together
            as they are; otherwise they are first divided by the group's mean.
    """

    groups: Groups
    values: Mapping[str, np.ndarray]
    criterion: str
    comparable: bool


class Criterion(ABC):
    """How much units matter. To add one: a frozen dataclass in a file of its own, with ``weigh``."""

    comparable = False
    needs_batches = False

    @abstractmethod
    def weigh(self, tensors: Mapping[str, Tensor], run: Run) -> Mapping[str, np.ndarray]:
        """Saliency of each unit, ``{group name: [units]}``.

        Args:
            tensors: parameters by their name in the graph, as the user's model holds them.
            run: the groups and what a criterion needs to see the model at work.
        """


@dataclass(frozen=True)
class Run:
    """What a criterion may look at: the groups, a private copy of the program, batches and the task."""

    groups: Groups
    model: nn.Module
    batches: Iterable[Any] | None
    task: Task


def score(
    model: nn.Module,
    groups: Groups,
    criterion: Criterion,
    batches: Iterable[Any] | None = None,
    task: Task | None = None,
) -> Scores:
    """Scores every unit of every group.

    Args:
        model: the user's model that ``groups`` was found on; it is not changed.
        groups: from :func:`secateur.find_groups`.
        criterion: how to score.
        batches: batches of data, for criteria that look at activations or gradients.
        task: names the loss; classification by default.

    Raises:
        DataError: the criterion needs batches and got none.
        NotFinite: a score is NaN or infinite.
    """
    if criterion.needs_batches and batches is None:
        raise DataError(f"the criterion {criterion} needs batches: score(model, groups, criterion, batches)")
    tensors = _tensors(model, groups)
    run = Run(groups, model, batches, task or classification())
    values = {name: np.asarray(v, dtype=np.float64) for name, v in criterion.weigh(tensors, run).items()}
    for name, value in values.items():
        if not np.isfinite(value).all():
            raise NotFinite(
                f"the scores of group '{name}' hold NaN or infinity; check the weights and the loss"
            )
    return Scores(groups, values, str(criterion), criterion.comparable)


def _tensors(model: nn.Module, groups: Groups) -> dict[str, Tensor]:
    """The model's parameters under the graph's names; folded ones come from the graph."""
    named = dict(model.named_parameters(remove_duplicate=False))
    graph = groups.graph
    out = {}
    for name in graph.state_names():
        own = graph.tensor(name)
        if not isinstance(own, nn.Parameter):
            continue
        given = named.get(name)
        if name in graph.folded or given is None:
            given = own
        if given.shape != own.shape:
            raise InputError(
                f"'{name}' has shape {list(given.shape)} in the model and {list(own.shape)} in the groups: "
                "score the model that the groups were found on"
            )
        out[name] = given.detach()
    return out


def _all(group: Group) -> Sequence[Member]:
    return group.members


def gather(
    groups: Groups,
    per_position: Mapping[tuple[str, int], np.ndarray],
    counted: Callable[[Group], Sequence[Member]] = _all,
) -> dict[str, np.ndarray]:
    """Sums values given for positions of parameter axes into values for units.

    Args:
        per_position: for ``(parameter, axis)``, float ``[n]``.
        counted: the members of a group that count, all of them by default.
    """
    out = {}
    for group in groups:
        total = np.zeros(group.units)
        for member in counted(group):
            values = per_position.get((member.param, member.axis))
            if values is not None:
                total += values[member.positions].sum(axis=1)
        out[group.name] = total
    return out


def sum_slices(tensor: Tensor, axis: int) -> np.ndarray:
    """The sum over all other axes, float64 ``[n]``."""
    others = [i for i in range(tensor.dim()) if i != axis]
    summed = tensor.to(torch.float64).sum(dim=others) if others else tensor.to(torch.float64)
    return summed.cpu().numpy()
