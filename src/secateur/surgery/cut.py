"""Cut: a plan becomes a smaller model, checked against the masked original before it is handed out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import fx, nn

from secateur.coupling import Groups, Operator, Rule, find_groups
from secateur.errors import NotVerified
from secateur.graph import Dynamic, trace
from secateur.planning import Plan, choice_of, without_removed
from secateur.surgery.emit import Emitted, emit
from secateur.surgery.prepare import Prepared, prepare
from secateur.surgery.rescale import Rescale
from secateur.surgery.shapes import check_shapes
from secateur.surgery.sizes import Sizes
from secateur.surgery.verify import Verification, verify
from secateur.task import Inputs


@dataclass(frozen=True)
class Cut:
    """A cut model and the proof that it computes what the masked original does.

    Args:
        module: the cut model.
        verification: the check against the masked original.
        prepared: the original as it was before slicing, its function unchanged; see
            :func:`secateur.surgery.prepare`.
        sizes: what lives.
        nodes: for each node of the prepared program that is left, the one of the cut program.
    """

    module: fx.GraphModule
    verification: Verification
    prepared: Prepared
    sizes: Sizes
    nodes: Mapping[fx.Node, fx.Node] = field(default_factory=dict)

    @property
    def unfolded(self) -> tuple[tuple[str, str], ...]:
        """Calls whose scale stands in the program because no weight could take it: name of the node, reason."""
        return self.prepared.unfolded


def cut(
    model: nn.Module,
    plan: Plan,
    example_inputs: Inputs,
    rules: Mapping[str, Rule | Operator] | None = None,
    dynamic: Dynamic | None = None,
) -> fx.GraphModule:
    """Applies a plan to a model and returns a smaller one; the model is not changed.

    Of a model on the meta device only the shapes are cut, and no value is compared; its weights are cut by
    :func:`cut_shards`.

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
    free = {index: list(axes) for index, axes in plan.outputs.items()}
    graph = trace(model, example_inputs, dynamic=dynamic)
    if (
        graph.folded and plan.fingerprint != graph.fingerprint
    ):  # made for a class that computes weights itself
        plain = trace(model, example_inputs, dynamic=dynamic, fold=False)
        graph = plain if plan.fingerprint == plain.fingerprint else graph
    return cut_groups(find_groups(graph, rules, free), plan).module


def cut_groups(groups: Groups, plan: Plan, *, dtype: torch.dtype | None = None) -> Cut:
    """The same from groups that were found before; ``dtype`` is the precision of the check."""
    groups = without_removed(groups, plan)
    choice = choice_of(groups, plan)
    sizes = Sizes(groups.coupling, groups.coupling.alive(choice.dead))
    _no_axis_empty(groups, sizes)
    prepared = prepare(groups, sizes, choice.orders, rescales=_folds(groups, plan), dtype=dtype)
    emitted = emit(prepared.groups, sizes)
    emitted.module.meta["secateur"]["plan"] = plan
    alone = groups.graph.shapes_alone
    verification = (
        check_shapes(prepared.groups, emitted) if alone else _verified(prepared.groups, emitted, dtype)
    )
    return Cut(emitted.module, verification, prepared, sizes, emitted.nodes)


def _verified(groups: Groups, emitted: Emitted, dtype: torch.dtype | None) -> Verification:
    """The check; what differs is looked at once more from equal inputs, for it may be rounding that grew on the way."""
    try:
        return verify(groups, emitted, dtype)
    except NotVerified:
        try:
            return verify(groups, emitted, equal_inputs=True)
        except NotVerified:
            pass
        raise


def _folds(groups: Groups, plan: Plan) -> list[Rescale]:
    nodes = {n.name: n for n in groups.graph.nodes}
    return [
        Rescale(nodes[f.node], f.operands, f.factor, dict(f.arguments))
        for f in plan.folded
        if f.node in nodes
    ]


def _no_axis_empty(groups: Groups, sizes: Sizes) -> None:
    for name, axes in groups.coupling.state_axes.items():
        if name in groups.removal.state:
            continue
        for i, axis in enumerate(axes):
            if len(axis) and sizes.of(axis) == 0:
                raise NotVerified(f"the plan would empty axis {i} of '{name}'", name)
