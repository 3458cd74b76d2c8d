"""Prune: the short way from a model to a smaller one, trace to cut in one call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from secateur.cost import Macs, Params
from secateur.coupling import FreeOutputs, Groups, Lock, Operator, Rule, find_groups, remove_blocks
from secateur.errors import FormError, RecipeError
from secateur.graph import Dynamic, computes_weights, trace
from secateur.planning import Allocator, Budget, Plan, Rounding, Ties, allocate, choose_depth
from secateur.scoring import Criterion, Magnitude, Random, Scores, score, score_blocks
from secateur.surgery.cut import Cut, cut_groups
from secateur.surgery.owner import in_own_class
from secateur.surgery.verify import Verification
from secateur.task import Inputs, Task

FORMS = ("graph", "module", "auto")


@dataclass(frozen=True)
class Pruned:
    """A pruned model and how it came about.

    Args:
        model: smaller, trainable; a graph module, in evaluation mode, or the user's own class, in the mode it was in.
        plan: what was kept, in terms of the original.
        locked: what could not be pruned, each with its reason.
        verification: the check against the masked original.
        groups: the groups found; their ``removal`` holds the blocks that were removed whole.
        form: ``"graph"`` or ``"module"``.
        obstacle: with ``form="auto"``, what kept the user's own class from being had; empty if nothing did.
        cut: the graph form beside the original, for what comes after: see :func:`secateur.reconstruct_`.
    """

    model: nn.Module
    plan: Plan
    locked: tuple[Lock, ...]
    verification: Verification
    groups: Groups
    cut: Cut
    form: str = "graph"
    obstacle: str = ""

    @property
    def outputs(self) -> Mapping[int, Mapping[int, tuple[int, ...]]]:
        """What is left of outputs that were set free: ``{index of the output: {axis: original indices kept}}``."""
        return self.plan.outputs


def prune(
    model: nn.Module,
    example_inputs: Inputs,
    *,
    keep: float | None = None,
    params: str | float | None = None,
    macs: str | float | None = None,
    remove: Sequence[str] | str = (),
    depth: float | None = None,
    criterion: Criterion | None = None,
    batches: Iterable[Any] | None = None,
    task: Task | None = None,
    allocator: Allocator | None = None,
    rounding: Rounding | None = None,
    rules: Mapping[str, Rule | Operator] | None = None,
    dynamic: Dynamic | None = None,
    free_outputs: FreeOutputs | None = None,
    form: str = "graph",
    config: bool = False,
    seed: int = 0,
) -> Pruned:
    """Prunes a model to a share of its units, parameters or multiply-adds. The model is not changed.

    Args:
        model: any module that ``torch.export`` takes.
        example_inputs: a tensor, a tuple, or a dict of keyword arguments; axis 0 of each tensor is the batch.
        keep: share of units kept in every prunable group; half leaves about a quarter of the parameters.
        params: instead, ``"0.5x"`` or a number.
        macs: the same for multiply-adds; both may be given.
        remove: names of blocks to remove whole (``result.groups.blocks`` has them), before any cut of widths; a module
            that is no block stands for all blocks in it. May be all that is asked for.
        depth: instead, the share of the model's layers that stay. The least important go: by how far they turn the
            stream on ``batches`` if there are any, else by the mean magnitude of their weights; never all of a stage.
        criterion: L2 magnitude by default.
        batches: for criteria that look at data.
        task: likewise; classification by default.
        allocator: uniform for ``keep``, global otherwise, by default.
        rounding: to multiples of eight by default.
        rules: rules for operators of the user's own, by name, or an :class:`secateur.Operator` where arguments hold
            sizes; see docs/own-operators.md.
        dynamic: axes besides the batch that stay dynamic, ``{input name or position: axes}``.
        free_outputs: outputs that may get narrower: ``True`` for all, names or indices, or these with axes, such as
            ``{"last_hidden_state": [2]}``; see :func:`secateur.find_groups`. A model without a head, whose output is
            its residual stream, has little to prune otherwise. ``Pruned.outputs`` says what is left, so that what
            reads the output can be cut alike; a classifier would lose classes.
        form: ``"graph"``; ``"module"`` for the user's own class, with widths that its code can compute; ``"auto"`` for
            the class where it can be had, else the graph.
        config: with the user's own class, only widths that its ``config`` can express, so that the class can be built
            from it again: ``save_pretrained`` and ``from_pretrained`` then work without Secateur.
        seed: of random criteria.

    Raises:
        RequestError: a wrong argument, model or input; the message says which.
        Infeasible: the budget cannot be met.
        NotVerified: the cut differs from the masked original.
        FormError: ``form="module"``, and the user's class cannot compute the result; holds it in graph form.
    """
    if form not in FORMS:
        raise RecipeError(f"form='{form}' is not one of {', '.join(FORMS)}")
    if config and form == "graph":
        raise RecipeError("config=True is about the user's own class; give form='module' or form='auto'")
    if remove and depth is not None:
        raise RecipeError("give either remove= or depth=, not both")
    budget = Budget(params=params, macs=macs) if (params, macs) != (None, None) else None
    if isinstance(batches, Iterator) and (depth is not None or form != "graph"):
        batches = list(batches)  # they may be read twice
    graph = trace(model, example_inputs, dynamic=dynamic)
    found = find_groups(graph, rules, free_outputs)
    names = [remove] if isinstance(remove, str) else list(remove)
    if depth is not None:
        names += choose_depth(found, score_blocks(found, batches), depth, comparable=batches is not None)
    groups = remove_blocks(found, names)
    criterion = criterion or Magnitude()
    if isinstance(criterion, Random):
        criterion = Random(criterion.seed or seed)
    whole = keep is None and budget is None and (names or depth is not None)  # widths stay as they are
    scores = None if whole else score(model, groups, criterion, batches, task)
    costs = [Params(graph), Macs(graph)] if budget else []

    def planned(groups: Groups, scores: Scores | None, ties: Ties | None) -> Plan:
        if scores is None:
            return Plan(groups.graph.fingerprint, {}, groups.removal.names)
        return allocate(scores, costs, budget, keep=keep, allocator=allocator, rounding=rounding, ties=ties)

    obstacle = ""
    if form != "graph":
        own = partial(
            in_own_class, model, planned=planned, rules=rules, free_outputs=free_outputs, config=config
        )
        tried, of = own(groups, scores), groups
        if tried.owner.module is None and computes_weights(graph.folded):
            plain = trace(model, example_inputs, dynamic=dynamic, fold=False)
            of = remove_blocks(find_groups(plain, rules, free_outputs), names)
            tried = own(of, None if whole else score(model, of, criterion, batches, task))
        if tried.owner.module is not None:
            check = tried.cut.verification
            return Pruned(tried.owner.module, tried.plan, of.locked, check, of, tried.cut, "module")
        obstacle = tried.owner.reason
    plan = planned(groups, scores, None)
    small = cut_groups(groups, plan)
    pruned = Pruned(small.module, plan, groups.locked, small.verification, groups, small, "graph", obstacle)
    if form == "module":
        raise FormError(
            f"{type(model).__name__} cannot be cut in its own class: {obstacle}; "
            "use form='graph', or form='auto' to take what can be had (the error holds the graph form in .pruned)",
            pruned,
        )
    return pruned
