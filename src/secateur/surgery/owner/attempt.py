"""One attempt at the user's own class under a plan: the factors its weights must take, the cut, the class beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from math import isfinite

import numpy as np
from torch import Tensor, fx, nn

from secateur.coupling import FreeOutputs, Groups, Operator, Rule
from secateur.graph import Probe, only_unread_state, probe
from secateur.planning import Fold, Plan, Ties, dead_atoms
from secateur.scoring import Scores
from secateur.surgery.cut import Cut, cut_groups
from secateur.surgery.owner.config import construction
from secateur.surgery.owner.equations import TRUSTING, More, Strict
from secateur.surgery.owner.form import Owner, own_class, values_for
from secateur.surgery.owner.scales import fold_for
from secateur.surgery.owner.standins import StandIns, find_standins
from secateur.surgery.owner.ties import find_ties
from secateur.surgery.owner.whole import whole_groups
from secateur.surgery.sizes import Sizes

TRIES = 3
ALIGNED = 8
"""Multiple of widths that kernels take which do not take all: 16 bytes in half precision."""


@dataclass(frozen=True)
class Attempt:
    """A cut and what came of writing it back.

    Args:
        plan: what is kept, with the factors that weights take where the class computes a constant from widths.
        cut: the graph form of the same plan.
        owner: the class, or what stands in the way.
        ties: that the plan was made under.
    """

    plan: Plan
    cut: Cut
    owner: Owner
    ties: Ties = field(default_factory=Ties)


def tied(
    groups: Groups, seen: Probe, scores: Scores | None, more: More | None = None, *, strict: Strict = TRUSTING
) -> tuple[Scores | None, Ties]:
    """What a plan for the class is made from: scores of the plain program for the whole one's groups, and ties.

    Where a call that nothing reads couples units that were free of each other, there is no saliency for them, and
    they stay. ``strict`` as for :func:`find_ties`: for a second attempt, where the first did not give the class.
    """
    ties = find_ties(groups, seen, more, strict=strict)
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


def in_own_class(
    model: nn.Module,
    groups: Groups,
    scores: Scores | None,
    *,
    planned: Callable[[Groups, Scores | None, Ties], Plan],
    rules: Mapping[str, Rule | Operator] | None = None,
    free_outputs: FreeOutputs | None = None,
    config: bool = False,
) -> Attempt:
    """The user's class under a plan that it can compute: plans are made until one comes out.

    Args:
        model: the user's module; it is not changed.
        groups: of its program.
        scores: of these, or nothing where widths stay as they are.
        planned: makes a plan, from the groups of all that the class runs.
        rules: that the groups were found with.
        free_outputs: likewise.
        config: whether its configuration must be able to say the widths.
    """
    seen = probe(model, groups.graph)
    more = construction(model, seen) if config else None
    every = whole_groups(groups, seen, rules, free_outputs)
    standins = find_standins(model, every, seen.unread)
    return attempts(model, every, seen, scores, partial(planned, every), more, standins)


def attempts(
    model: nn.Module,
    groups: Groups,
    seen: Probe,
    scores: Scores | None,
    planned: Callable[[Scores | None, Ties], Plan],
    more: More | None = None,
    standins: StandIns | None = None,
    strict: Strict = TRUSTING,
) -> Attempt:
    """The first attempt that gives the class, or the last.

    Each keeps as it was what stood in the way of the one before, or lets weights take the factor by which the class's
    number differs.

    Args:
        model: the user's module; it is not changed.
        groups: from :func:`whole_groups`.
        seen: from :func:`secateur.graph.probe`.
        scores: of the plain program.
        planned: makes a plan under ties.
        more: how a configuration decides sizes.
        standins: for the modules of blocks that are removed whole.
        strict: what is not trusted from the first.
    """
    standins = standins or StandIns()
    seen = seen.without(standins.nodes)
    before: Ties | None = None
    tried: Attempt | None = None
    for _ in range(TRIES):
        known, ties = tied(groups, seen, scores, more, strict=strict)
        if tried is not None and not isfinite(tried.owner.error):
            ties = replace(ties, multiple=ALIGNED)
        if tried is None or ties != before:
            before, plan = ties, planned(known, ties)
            tried = attempt(model, groups, seen, plan, more, standins)
            if factors := _factors(tried, groups):
                tried = attempt(model, groups, seen, replace(plan, folded=factors), more, standins)
            if tried.owner.module is not None or standins.reason:
                return replace(tried, ties=ties)
        deviating = frozenset(d.node for d in tried.owner.deviations)
        compared = frozenset(tried.owner.comparisons)
        # First what was seen to differ; where nothing was, all that left no trace.
        untraced = strict.untraced or (deviating <= strict.nodes and compared <= strict.comparisons)
        strict = replace(
            strict,
            nodes=strict.nodes | deviating,
            comparisons=strict.comparisons | compared,
            untraced=untraced,
        )
    assert tried is not None and before is not None
    return replace(tried, ties=before)


def _factors(tried: Attempt, groups: Groups) -> tuple[Fold, ...]:
    """Further factors that weights must take, seen where the class did not come out."""
    found = [
        fold_for(d.node, d.needed, d.own, groups.coupling.values)
        for d in tried.owner.deviations
        if isinstance(d.own, float) and d.own and d.needed
    ]
    return tuple(f for f in found if f is not None)


def attempt(
    model: nn.Module,
    groups: Groups,
    seen: Probe,
    plan: Plan,
    more: More | None = None,
    standins: StandIns | None = None,
) -> Attempt:
    """Cuts by a plan and writes the result into a copy of the user's class.

    Args:
        model: the user's module; it is not changed.
        groups: found on its program.
        seen: from :func:`secateur.graph.probe`.
        plan: made under the ties of :func:`tied`; it may hold factors besides those that are found here.
        more: how a configuration decides sizes; the class must then come out the same when it is built from it.
        standins: for the modules of blocks that are removed whole.

    Raises:
        NotVerified: the graph form differs from the masked original.
    """
    values = values_for(groups, plan, seen, more, standins)
    here = {f.node for f in values.folds}
    plan = replace(plan, folded=(*values.folds, *(f for f in plan.folded if f.node not in here)))
    small = cut_groups(groups, plan)
    if standins is not None and standins.reason:
        return Attempt(plan, small, Owner(None, 0.0, standins.reason))
    config = more is not None
    unread = _unread(small.prepared.groups, small.sizes, seen)
    owner = own_class(model, groups, small.module, values, config=config, unread=unread)
    return Attempt(plan, small, owner)


def written_back(model: nn.Module, groups: Groups, seen: Probe, plan: Plan, small: fx.GraphModule) -> Owner:
    """A stored program's weights in a copy of the user's class, which has the widths from before the cut.

    Args:
        model: the user's module; it is not changed.
        groups: from :func:`whole_groups`.
        seen: from :func:`secateur.graph.probe`.
        plan: gives tensors the shapes that ``small`` has.
        small: the stored program.
    """
    standins = find_standins(model, groups, seen.unread)
    if standins.reason:
        return Owner(None, 0.0, standins.reason)
    sizes = Sizes(groups.coupling, groups.coupling.alive(dead_atoms(groups, plan)))
    values = values_for(groups, plan, seen.without(standins.nodes), standins=standins)
    return own_class(model, groups, small, values, unread=_unread(groups, sizes, seen))


def _unread(groups: Groups, sizes: Sizes, seen: Probe) -> dict[str, Tensor]:
    """The tensors that only calls without a reader need, cut like all others."""
    found = {}
    for name in only_unread_state(seen.graph, seen.unread):
        tensor = groups.graph.tensor(name)
        cut = sizes.take(tensor.detach(), groups.coupling.state_axes[name])
        found[name] = (
            nn.Parameter(cut, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else cut
        )
    return found
