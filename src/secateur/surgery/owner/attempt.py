"""One attempt at the user's own class under a plan: the factors its weights must take, the cut, the class beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn

from secateur.coupling import Groups
from secateur.graph import Probe
from secateur.planning import Plan
from secateur.surgery.cut import Cut, cut_groups
from secateur.surgery.owner.equations import More
from secateur.surgery.owner.form import Owner, own_class, values_for


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


def attempt(model: nn.Module, groups: Groups, seen: Probe, plan: Plan, more: More | None = None) -> Attempt:
    """Cuts by a plan and writes the result into a copy of the user's class.

    Args:
        model: the user's module; it is not changed.
        groups: found on its program.
        seen: from :func:`secateur.graph.probe`.
        plan: made under the ties of :func:`find_ties`.
        more: how a configuration decides sizes; the class must then come out the same when it is built from it.

    Raises:
        NotVerified: the graph form differs from the masked original.
    """
    values = values_for(groups, plan, seen, more)
    plan = replace(plan, folded=values.folds)
    small = cut_groups(groups, plan)
    return Attempt(plan, small, own_class(model, groups, small.module, values, config=more is not None))
