"""Allocators: from saliencies and a budget to a plan.

``Uniform`` keeps the same share everywhere, ``Global`` ranks all units together. Both search one number (a
share, a threshold) for the largest model within the budget, then hand back what rounding left over, step by
step, where it buys most.
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import lcm

import numpy as np

from secateur.cost import BoundCost, Cost, Tally, modules_with_weights
from secateur.coupling import Group, Groups
from secateur.errors import Infeasible, RecipeError
from secateur.planning.budget import Amount, Budget
from secateur.planning.bundle import bundles
from secateur.planning.plan import Plan, plan_of
from secateur.planning.rounding import Rounding
from secateur.planning.spend import kept, spend
from secateur.planning.ties import Ties
from secateur.scoring import Scores

ATTAINED = 0.97  # a count budget is attained within [0.97, 1] of what was asked


class Allocator(ABC):
    """Widths as a function of one number in [0, 1]: 0 keeps the least, 1 keeps everything."""

    @abstractmethod
    def widths(self, problem: Problem, level: float) -> np.ndarray:
        """Levels to keep, int64 ``[bundles]``; grows with ``level``."""


@dataclass(frozen=True)
class Uniform(Allocator):
    """The same share of units in every group."""

    def widths(self, problem: Problem, level: float) -> np.ndarray:
        """Each bundle's share, rounded, between its floor and all of it."""
        wanted = [b.nearest(problem.rounding, level * b.levels) for b in problem.bundles]
        return np.clip(np.array(wanted, dtype=np.int64), problem.floors, problem.units)


@dataclass(frozen=True)
class Global(Allocator):
    """All units in one ranking: those above a threshold stay."""

    def widths(self, problem: Problem, level: float) -> np.ndarray:
        """Units above the ``1 - level`` quantile of all saliencies, rounded."""
        ranking = problem.ranking
        cut = round((1.0 - level) * len(ranking))
        if cut >= len(ranking):
            return problem.floors.copy()
        threshold = ranking[cut]
        above = [int((s >= threshold).sum()) for s in problem.saliencies]
        wanted = [b.nearest(problem.rounding, n) for b, n in zip(problem.bundles, above, strict=True)]
        return np.clip(np.array(wanted, dtype=np.int64), problem.floors, problem.units)


@dataclass(frozen=True)
class Care:
    """Floors that keep an allocation sane, given up only where the budget cannot be met otherwise.

    Args:
        least: share of the units that every group keeps.
        streams: the same for residual streams (groups that several layers write to), where saliencies of different
            groups have no common unit: a stream's unit stands for far more than one of a single layer.
        edges: share that groups of the first and the last layer keep: the first sees the raw input, the last
            is what the classes are told apart by.
    """

    least: float = 0.1
    edges: float = 0.5
    streams: float = 1.0


class Problem:
    """Bundles, saliencies and floors, as arrays; what an allocator looks at. A group is a bundle unless tied."""

    def __init__(
        self,
        scores: Scores,
        rounding: Rounding,
        care: Care | None,
        limits: Sequence[Limit] = (),
        ties: Ties | None = None,
    ) -> None:
        self.bundles = bundles(scores.groups.groups, ties)
        self.coupling = scores.groups.coupling
        self.rounding = rounding
        self.ranked_apart = not scores.comparable
        self.units = np.array([b.levels for b in self.bundles], dtype=np.int64)
        fixed = Rounding(ties.multiple if ties else 1)
        self.finest = np.array([b.step(fixed) for b in self.bundles], dtype=np.int64)
        raw = {g.name: scores.aligned(g.name) for g in scores.groups}
        relative = {n: s if scores.comparable else s / max(float(s.mean()), 1e-30) for n, s in raw.items()}
        found = [b.sorted_units(relative) for b in self.bundles]
        self.atoms = [atoms for _, atoms in found]
        # What a unit is worth for what it costs: the greedy rule of the knapsack (Dantzig, 1957).
        prices = self._prices(limits if scores.comparable else ())
        self.worth = [s for s, _ in found]
        self.saliencies = [s / p for (s, _), p in zip(found, prices, strict=True)]
        self.ranking = np.sort(np.concatenate(self.saliencies)) if self.saliencies else np.empty(0)
        self.floors = self._floors(scores.groups, care)

    def _prices(self, limits: Sequence[Limit]) -> np.ndarray:
        """What a level of each bundle costs, as a share of what is limited; the least of all where it costs nothing."""
        everything = np.ones(self.coupling.facts.size, dtype=bool)
        prices = np.zeros(len(self.bundles))
        if limits:
            tally = self.tally(limits)
            tally.start(everything)
            for i, atoms in enumerate(self.atoms):
                less = tally.without_atoms(atoms[0]).costs
                for limit, dense, rest in zip(limits, tally.costs, less, strict=True):
                    prices[i] += (dense - rest) / limit.dense
        return (
            np.where(prices > 0, prices, prices[prices > 0].min(initial=1.0))
            if limits
            else np.ones_like(prices)
        )

    def _floors(self, groups: Groups, care: Care | None) -> np.ndarray:
        floors = np.ones(len(self.bundles), dtype=np.int64)
        edges = _edge_groups(groups)
        for i, bundle in enumerate(self.bundles):
            share = 1.0 if bundle.frozen else 0.0
            if care is not None:
                on_edge = any(g.name in edges for g in bundle.groups)
                in_stream = self.ranked_apart and any(_is_stream(groups, g) for g in bundle.groups)
                share = max(share, care.least, care.edges * on_edge, care.streams * in_stream)
            floors[i] = min(bundle.levels, bundle.nearest(self.rounding, share * bundle.levels))
        return floors

    def tally(self, limits: Sequence[Limit]) -> Tally:
        """What is limited, for candidates that differ in a few units."""
        key = tuple(id(limit) for limit in limits)
        if key not in self._tallies:
            self._tallies[key] = Tally(self.coupling, [limit.cost for limit in limits])
        return self._tallies[key]

    @cached_property
    def _tallies(self) -> dict[tuple[int, ...], Tally]:
        return {}  # the limits outlive the problem

    def dead(self, widths: np.ndarray) -> np.ndarray:
        """The atoms removed when each bundle keeps its most salient levels."""
        gone = [atoms[int(n) :].reshape(-1) for atoms, n in zip(self.atoms, widths, strict=True)]
        return np.concatenate(gone) if gone else np.empty(0, dtype=np.int64)

    def alive(self, widths: np.ndarray) -> np.ndarray:
        """bool ``[labels]`` for these widths."""
        return self.coupling.alive(self.dead(widths))


def allocate(
    scores: Scores,
    costs: Sequence[Cost] = (),
    budget: Budget | None = None,
    *,
    keep: float | None = None,
    allocator: Allocator | None = None,
    rounding: Rounding | None = None,
    care: Care | None = None,
    ties: Ties | None = None,
) -> Plan:
    """Chooses what to keep.

    Args:
        scores: from :func:`secateur.score`.
        costs: cost models, one for each count budget.
        budget: what the result may cost; the kinds must be those of ``costs``.
        keep: instead of a budget, the share of units kept in every group.
        allocator: :class:`Global` for a budget, :class:`Uniform` for ``keep``, by default.
        rounding: multiples of eight by default.
        care: floors, see :class:`Care`.
        ties: groups whose widths must change together, or not at all.

    Raises:
        Infeasible: even the smallest model is over the budget; names the nearest possible.
        RecipeError: neither or both of ``keep`` and ``budget`` were given, or a kind has no cost model.
    """
    rounding = rounding or Rounding()
    if ties is not None and rounding.multiple % ties.multiple:
        rounding = Rounding(lcm(rounding.multiple, ties.multiple))
    if (keep is None) == (budget is None):
        raise RecipeError("give either keep= or a budget (params=, macs=), not both and not neither")
    if keep is not None:
        if not 0 < keep <= 1:
            raise RecipeError(f"keep={keep} must be above 0 and at most 1")
        problem = Problem(scores, rounding, None, ties=ties)
        widths = (allocator or Uniform()).widths(problem, keep)
        return plan_of(scores.groups, problem.dead(_whole_where_tiny(problem, widths)), scores.orders)
    assert budget is not None
    limits = _limits(scores.groups, costs, budget)
    care = care or Care()
    if not isinstance(allocator or Global(), Global):
        care = replace(care, streams=0.0)
    for attempt in (care, replace(care, streams=0.0), None):
        problem = Problem(scores, rounding, attempt, limits, ties)
        if _fits(problem, limits, problem.floors):
            widths = _search(problem, limits, allocator or Global())
            return plan_of(scores.groups, problem.dead(widths), scores.orders)
    raise _infeasible(problem, limits)


@dataclass(frozen=True)
class Limit:
    """A bound cost and what it may be at most."""

    cost: BoundCost
    amount: Amount
    dense: float

    @property
    def most(self) -> float:
        """The limit in absolute terms."""
        return self.amount.limit(self.dense)


def _limits(groups: Groups, costs: Sequence[Cost], budget: Budget) -> list[Limit]:
    bound = {c.kind: c.bind(groups) for c in costs}
    limits = []
    for amount in budget.amounts():
        if amount.kind not in bound:
            known = ", ".join(sorted(bound)) or "none"
            raise RecipeError(
                f"no cost model was given for the budget {amount.kind}={amount.asked}; given: {known}"
            )
        limits.append(Limit(bound[amount.kind], amount, bound[amount.kind].dense))
    if not limits:
        raise RecipeError("the budget is empty; give params=, macs= or another amount")
    return limits


def _fits(problem: Problem, limits: Sequence[Limit], widths: np.ndarray) -> bool:
    alive = problem.alive(widths)
    return all(limit.cost.of(alive) <= limit.most for limit in limits)


def _search(problem: Problem, limits: Sequence[Limit], allocator: Allocator) -> np.ndarray:
    """The largest level that fits, then what rounding left over."""
    if _fits(problem, limits, problem.units):
        return problem.units.copy()
    low, high = 0.0, 1.0
    widths = np.minimum(allocator.widths(problem, 0.0), problem.units)
    if not _fits(problem, limits, widths):
        widths = problem.floors.copy()
    for _ in range(24):
        middle = (low + high) / 2
        tried = allocator.widths(problem, middle)
        if _fits(problem, limits, tried):
            low, widths = middle, tried
        else:
            high = middle
    steps = np.array([b.step(problem.rounding) for b in problem.bundles], dtype=np.int64)
    widths = _fill(problem, limits, widths, steps)
    if isinstance(allocator, Global) and not problem.ranked_apart:
        spent = spend(problem, limits, steps)
        if spent is not None:
            spent = _fill(problem, limits, spent, steps)
            widths = spent if kept(problem, spent) > kept(problem, widths) else widths
    # Widths may leave the friendly multiple only where the budget would otherwise not be attained.
    while _attained(problem, limits, widths) < ATTAINED and (steps > problem.finest).any():
        steps = np.maximum(steps // 2, problem.finest)
        widths = _fill(problem, limits, widths, steps)
    return _exchange(problem, limits, widths)


def _exchange(problem: Problem, limits: Sequence[Limit], widths: np.ndarray) -> np.ndarray:
    """Gives up a few units of one group for others', while the budget is not attained and that brings it nearer.

    Needed where one unit is more than three per cent of the budget: in narrow networks only.
    """
    used = _attained(problem, limits, widths)
    while used < ATTAINED:
        candidates = []
        for i in range(len(widths)):
            step = problem.finest[i]
            for steps in range(1, min(4, int(widths[i] - problem.floors[i]) // step) + 1):
                fewer = widths.copy()
                fewer[i] -= steps * step
                candidates.append(_fill(problem, limits, fewer, problem.finest, frozenset((i,))))
        attained = [_attained(problem, limits, c) for c in candidates]
        if max(attained, default=0.0) <= used:
            break
        best = int(np.argmax(attained))
        used, widths = attained[best], candidates[best]
    return widths


def _attained(problem: Problem, limits: Sequence[Limit], widths: np.ndarray) -> float:
    """How much of the tightest limit is used."""
    alive = problem.alive(widths)
    return max(limit.cost.of(alive) / limit.most for limit in limits)


def _fill(
    problem: Problem,
    limits: Sequence[Limit],
    widths: np.ndarray,
    steps: np.ndarray,
    closed: frozenset[int] = frozenset(),
) -> np.ndarray:
    """Adds steps back where the mean saliency of what returns is highest, while the budget holds."""
    widths = widths.copy()
    tally = problem.tally(limits)
    tally.start(problem.alive(widths))

    def gain(i: int) -> float:
        return float(problem.saliencies[i][widths[i] : widths[i] + steps[i]].mean())

    # The best first, the first of several.
    waiting = [(-gain(i), i) for i in range(len(widths)) if widths[i] < problem.units[i] and i not in closed]
    heapq.heapify(waiting)
    while waiting:
        _, best = heapq.heappop(waiting)
        wider = min(problem.units[best], widths[best] + steps[best])
        change = tally.with_atoms(problem.atoms[best][int(widths[best]) : int(wider)].reshape(-1))
        if all(cost <= limit.most for cost, limit in zip(change.costs, limits, strict=True)):
            tally.take(change)
            widths[best] = wider
            if wider < problem.units[best]:
                heapq.heappush(waiting, (-gain(best), best))
    return widths


def _whole_where_tiny(problem: Problem, widths: np.ndarray) -> np.ndarray:
    """A group of two or three units that each stand for many positions is kept whole at a uniform share.

    Halving a channel multiplier or the heads of a tiny transformer on top of the channels would leave
    far less than the share that was asked for.
    """
    tiny = [
        any(g.units < 4 and max((m.multiplicity for m in g.members), default=1) > 1 for g in bundle.groups)
        for bundle in problem.bundles
    ]
    return np.where(np.array(tiny, dtype=bool), problem.units, widths)


def _infeasible(problem: Problem, limits: Sequence[Limit]) -> Infeasible:
    alive = problem.alive(problem.floors)
    for limit in limits:
        least = limit.cost.of(alive)
        if least > limit.most:
            kind, share = limit.amount.kind, least / limit.dense
            nearest = share if limit.amount.relative else least
            written = f"{share:.3g}x" if limit.amount.relative else f"{least:.6g}"
            return Infeasible(
                f"the budget {kind}={limit.amount.asked} cannot be met: what is locked needs {least:,.0f} "
                f"{kind}; the nearest possible is {kind}={written}",
                nearest,
            )
    raise AssertionError("called although the budget can be met")


def _edge_groups(groups: Groups) -> set[str]:
    """Groups of the first layer's outputs and of the last layer's inputs."""
    weights = modules_with_weights(n for n in groups.graph.nodes if n not in groups.removal.gone)
    if not weights:
        return set()
    first, last = weights[0], weights[-1]
    return {g.name for g in groups for m in g.members if (m.param, m.axis) in ((first, 0), (last, 1))}


def _is_stream(groups: Groups, group: Group) -> bool:
    """Whether several layers write to the group: a residual stream, as opposed to one layer's own channels."""
    writers = 0
    for member in group.members:
        tensor = groups.graph.tensor(member.param)
        depthwise = tensor.dim() >= 3 and tensor.shape[1] == 1
        writers += member.axis == 0 and tensor.dim() >= 2 and not member.consumes and not depthwise
    return writers > 1
