"""Scores: a saliency for every unit of every group, and the interface of what computes them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from secateur.coupling import Group, Groups, Member
from secateur.errors import DataError, InputError, NotFinite
from secateur.scoring.cells import Axis, where, with_cells
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
        cells: for groups that may lose units of their own in each context (each head, say), float64
            ``[contexts, units]``: the saliency of a unit in one context.
    """

    groups: Groups
    values: Mapping[str, np.ndarray]
    criterion: str
    comparable: bool
    cells: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def orders(self) -> dict[str, np.ndarray]:
        """For groups with cells, int64 ``[contexts, units]``: the units of each context, the most salient first."""
        return {name: np.argsort(-cells, axis=1, kind="stable") for name, cells in self.cells.items()}

    def aligned(self, name: str) -> np.ndarray:
        """float64 ``[units]``: what is chosen among.

        Those are a group's units; where it has cells, the n-th is the n-th best cell of every context.
        """
        cells = self.cells.get(name)
        return self.values[name] if cells is None else -np.sort(-cells, axis=1).sum(axis=0)


class Criterion(ABC):
    """How much units matter. To add one: a frozen dataclass in a file of its own, with ``weigh``.

    ``run.groups`` holds further groups of the same form: the dimensions of each head by itself, for example. A
    criterion that uses :func:`where`, :func:`sum_slices` and :func:`gather` may set ``reads_blocks``; it then
    also gets members that are a block of two axes, as the inputs of one group of a convolution are.
    """

    comparable = False
    needs_batches = False
    needs_weights = True
    reads_blocks = False

    @abstractmethod
    def weigh(self, tensors: Mapping[str, Tensor], run: Run) -> Mapping[str, np.ndarray]:
        """Saliency of each unit, ``{group name: [units]}``.

        Args:
            tensors: parameters by their name in the graph, as the user's model holds them. They may be read from a
                file when they are asked for: ask for each once, and keep none.
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
    *,
    cells: bool = True,
    tensors: Mapping[str, Tensor] | None = None,
) -> Scores:
    """Scores every unit of every group.

    Args:
        model: the user's model that ``groups`` was found on; it is not changed.
        groups: from :func:`secateur.find_groups`.
        criterion: how to score.
        batches: batches of data, for criteria that look at activations or gradients.
        task: names the loss; classification by default.
        cells: whether each head may lose dimensions of its own, each group of a convolution channels of its
            own, and the like; otherwise all lose the same ones.
        tensors: weights by name, instead of the model's: those of :func:`secateur.open_checkpoint`, for a model on the
            meta device. They are read one at a time; a criterion that runs the model cannot use them.

    Raises:
        DataError: the criterion needs batches and got none.
        InputError: the model is on the meta device, and the criterion needs what it has not.
        NotFinite: a score is NaN or infinite.
    """
    if criterion.needs_batches and batches is None:
        raise DataError(f"the criterion {criterion} needs batches: score(model, groups, criterion, batches)")
    _check_weights(groups, criterion, tensors)
    weights = _tensors(model, groups) if tensors is None else _Given(groups, tensors)
    every, named = with_cells(groups, criterion.reads_blocks) if cells else (groups, {})
    run = Run(every, model, batches, task or classification())
    values = {name: np.asarray(v, dtype=np.float64) for name, v in criterion.weigh(weights, run).items()}
    for name, value in values.items():
        if not np.isfinite(value).all():
            raise NotFinite(
                f"the scores of group '{name}' hold NaN or infinity; check the weights and the loss"
            )
    found = {
        name: values[own].reshape(groups.contexts[name].shape) for name, own in named.items() if own in values
    }
    return Scores(
        groups, {g.name: values[g.name] for g in groups}, str(criterion), criterion.comparable, found
    )


def _check_weights(groups: Groups, criterion: Criterion, tensors: Mapping[str, Tensor] | None) -> None:
    if not groups.graph.shapes_alone or not criterion.needs_weights:
        return
    if criterion.needs_batches:
        raise InputError(
            f"{criterion} runs the model, which is on the meta device and has no weights; "
            "use a criterion of weights alone, with tensors=sc.open_checkpoint(folder), or sc.Random()"
        )
    if tensors is None:
        raise InputError(
            f"{criterion} reads weights, and the model is on the meta device: give those of its checkpoint, "
            "score(..., tensors=sc.open_checkpoint(folder)), or score with sc.Random()"
        )


class _Given(Mapping[str, Tensor]):
    """Parameters from elsewhere under the graph's names, each read when it is asked for."""

    def __init__(self, groups: Groups, tensors: Mapping[str, Tensor]) -> None:
        graph = groups.graph
        names: dict[str, list[str]] = {}
        for other, name in graph.aliases.items():
            names.setdefault(name, []).append(other)
        self.graph, self.tensors, self.source = graph, tensors, dict[str, str]()
        for name in graph.state_names():
            if isinstance(graph.tensor(name), nn.Parameter):
                held = next((n for n in (name, *names.get(name, ())) if n in tensors), None)
                if held is None or name in graph.folded:
                    made = " and ".join(graph.folded.get(name, ()))
                    raise InputError(
                        f"the weights that were given have no '{name}'"
                        + (f", which is computed from {made}" if made else "; are they of this model?")
                    )
                self.source[name] = held

    def __getitem__(self, name: str) -> Tensor:
        tensor, own = self.tensors[self.source[name]], self.graph.tensor(name)
        if tensor.shape != own.shape:
            raise InputError(
                f"'{name}' has shape {list(tensor.shape)} among the weights that were given and {list(own.shape)} "
                "in the groups: give those of the model that the groups were found on"
            )
        return tensor.detach()

    def __iter__(self) -> Iterator[str]:
        return iter(self.source)

    def __len__(self) -> int:
        return len(self.source)

    def __contains__(self, name: object) -> bool:
        return name in self.source


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
    per_position: Mapping[tuple[str, Axis], np.ndarray],
    counted: Callable[[Group], Sequence[Member]] = _all,
) -> dict[str, np.ndarray]:
    """Sums values given for positions of parameter axes into values for units.

    Args:
        per_position: for ``(parameter, axis)``, float ``[n]``; see :func:`where`.
        counted: the members of a group that count, all of them by default.
    """
    out = {}
    for group in groups:
        total = np.zeros(group.units)
        for member in counted(group):
            values = per_position.get(where(member))
            if values is not None:
                total += values[member.positions].sum(axis=1)
        out[group.name] = total
    return out


def sum_slices(tensor: Tensor, axis: Axis) -> np.ndarray:
    """The sum over all other axes, float64 ``[n]``; two axes are counted as one, row-major."""
    own = axis if isinstance(axis, tuple) else (axis,)
    others = [i for i in range(tensor.dim()) if i not in own]
    summed = tensor.to(torch.float64).sum(dim=others) if others else tensor.to(torch.float64)
    if own != tuple(sorted(own)):
        summed = summed.T
    return summed.reshape(-1).cpu().numpy()
