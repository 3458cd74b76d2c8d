"""Ties for several cuts one after another, at the end of which the user's own class is to hold the result."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from secateur.coupling import FreeOutputs, Groups
from secateur.graph import probe
from secateur.planning import Plan, Ties, allocate
from secateur.scoring import Random, Scores, score
from secateur.surgery.owner.attempt import attempts
from secateur.surgery.owner.equations import Strict
from secateur.surgery.owner.whole import whole_groups


def lasting_ties(
    model: nn.Module, groups: Groups, free_outputs: FreeOutputs | None = None
) -> tuple[Ties | None, str]:
    """Ties under which the class can hold what any row of plans leaves; tried on one plan.

    Constants that the class computes from widths keep these whole: a factor for weights would have to be known to
    every later cut.

    Args:
        model: the user's module; it is not changed.
        groups: found on its program.
        free_outputs: as the groups were found with.

    Returns:
        the ties, by names of groups, or None; and then what stands in the way.
    """
    seen = probe(model, groups.graph)
    every = whole_groups(groups, seen, free_outputs=free_outputs)

    def planned(scores: Scores | None, ties: Ties) -> Plan:
        assert scores is not None
        return allocate(scores, keep=0.5, ties=ties)

    scores = score(model, groups, Random(0))
    tried = attempts(model, every, seen, scores, planned, strict=Strict(constants=True))
    if tried.owner.module is None:
        return None, tried.owner.reason
    if tried.plan.folded:
        return None, f"it computes a constant from widths at {tried.plan.folded[0].node}"
    units = {g.name: g.units for g in every}
    unlike = {g.name for g in groups if units.get(g.name) != g.units}
    return replace(tried.ties, frozen=tried.ties.frozen | unlike), ""
