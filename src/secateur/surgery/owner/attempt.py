"""One attempt at the user's own class under a plan: the factors its weights must take, the cut, the class beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor, nn

from secateur.coupling import Groups
from secateur.graph import Probe, only_unread_state
from secateur.planning import Plan, Ties
from secateur.scoring import Scores
from secateur.surgery.cut import Cut, cut_groups
from secateur.surgery.owner.equations import More
from secateur.surgery.owner.form import Owner, own_class, values_for
from secateur.surgery.owner.ties import find_ties


@dataclass(frozen=True)
class Attempt:
    """A cut and what came of writing it back.

    Args:
        plan: what is kept, with the factors that weights take where the class computes a constant from widths.
        cut: the graph form of the same plan.
        owner: the class, or what stands in the way.
    """

    plan: Plan
    cut: Cut
    owner: Owner


def tied(
    groups: Groups, seen: Probe, scores: Scores | None, more: More | None = None
) -> tuple[Scores | None, Ties]:
    """What a plan for the class is made from: scores of the plain program for the whole one's groups, and ties.

    Where a call that nothing reads couples units that were free of each other, there is no saliency for them, and
    they stay.
    """
    ties = find_ties(groups, seen, more)
    if scores is None or scores.groups.graph is groups.graph:
        return scores, ties
    units = {g.name: g.units for g in scores.groups}
    fits = {g.name for g in groups if units.get(g.name) == g.units}
    values = {g.name: scores.values[g.name] if g.name in fits else np.zeros(g.units) for g in groups}
    contexts = groups.contexts
    cells = {
        n: c for n, c in scores.cells.items() if n in fits and n in contexts and contexts[n].shape == c.shape
    }
    unknown = frozenset(g.name for g in groups) - fits
    return replace(scores, groups=groups, values=values, cells=cells), replace(
        ties, frozen=ties.frozen | unknown
    )


def attempt(model: nn.Module, groups: Groups, seen: Probe, plan: Plan, more: More | None = None) -> Attempt:
    """Cuts by a plan and writes the result into a copy of the user's class.

    Args:
        model: the user's module; it is not changed.
        groups: found on its program.
        seen: from :func:`secateur.graph.probe`.
        plan: made under the ties of :func:`tied`.
        more: how a configuration decides sizes; the class must then come out the same when it is built from it.

    Raises:
        NotVerified: the graph form differs from the masked original.
    """
    values = values_for(groups, plan, seen, more)
    plan = replace(plan, folded=values.folds)
    small = cut_groups(groups, plan)
    config = more is not None
    owner = own_class(model, groups, small.module, values, config=config, unread=_unread(small, seen))
    return Attempt(plan, small, owner)


def _unread(small: Cut, seen: Probe) -> dict[str, Tensor]:
    """The tensors that only calls without a reader need, cut like all others."""
    groups, found = small.prepared.groups, {}
    for name in only_unread_state(seen.graph, seen.unread):
        tensor = groups.graph.tensor(name)
        cut = small.sizes.take(tensor.detach(), groups.coupling.state_axes[name])
        found[name] = (
            nn.Parameter(cut, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else cut
        )
    return found
