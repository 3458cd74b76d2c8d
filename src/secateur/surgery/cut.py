"""Cut: a plan becomes a smaller model, checked against the masked original before it is handed out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import fx, nn

from secateur.coupling import Groups, Rule, find_groups
from secateur.errors import NotVerified
from secateur.graph import Dynamic, trace
from secateur.planning import Plan, dead_atoms, without_removed
from secateur.surgery.emit import emit
from secateur.surgery.sizes import Sizes
from secateur.surgery.verify import Verification, verify
from secateur.task import Inputs


@dataclass(frozen=True)
class Cut:
    """A cut model and the proof that it computes what the masked original does."""

    module: fx.GraphModule
    verification: Verification


def cut(
    model: nn.Module,
    plan: Plan,
    example_inputs: Inputs,
    rules: Mapping[str, Rule] | None = None,
    dynamic: Dynamic | None = None,
) -> fx.GraphModule:
    """Applies a plan to a model and returns a smaller one; the model is not changed.

    Args:
        model: the model whose indices the plan speaks of.
        plan: what to keep.
        example_inputs: as for :func:`secateur.trace`.
        dynamic: as for :func:`secateur.trace`.
        rules: those that the plan's groups were found with, for operators of the user's own.

    Raises:
        PlanError: the plan is for another model, or was altered.
        NotVerified: the result differs from the masked original; nothing is returned.
    """
    return cut_groups(find_groups(trace(model, example_inputs, dynamic=dynamic), rules), plan).module


def cut_groups(groups: Groups, plan: Plan, *, dtype: torch.dtype | None = None) -> Cut:
    """The same from groups that were found before; ``dtype`` is the precision of the check."""
    groups = without_removed(groups, plan)
    sizes = Sizes(groups.coupling, groups.coupling.alive(dead_atoms(groups, plan)))
    _no_axis_empty(groups, sizes)
    emitted = emit(groups, sizes)
    verification = verify(groups, emitted, dtype)
    return Cut(emitted.module, verification)


def _no_axis_empty(groups: Groups, sizes: Sizes) -> None:
    for name, axes in groups.coupling.state_axes.items():
        if name in groups.removal.state:
            continue
        for i, axis in enumerate(axes):
            if len(axis) and sizes.of(axis) == 0:
                raise NotVerified(f"the plan would empty axis {i} of '{name}'", name)
