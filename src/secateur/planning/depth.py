"""Depth: which blocks to remove for a share of them to be kept.

The units are whole layers where there are any: the smallest repeated block around each residual branch, else the
branch itself. Those with the lowest saliency go first, but never all of a stage, the list of modules that a
layer stands in: what is left would have nothing to do there.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

from secateur.coupling import Block, Groups
from secateur.errors import Infeasible, RecipeError


def depth_units(blocks: Sequence[Block]) -> list[Block]:
    """The blocks that depth counts: no two overlap, and none is locked."""
    free = [b for b in blocks if not b.locked]
    inside = {b.name: frozenset(b.nodes) for b in free}

    def holds(one: Block, two: Block) -> bool:
        within = (two.term or two.exit) in inside[one.name]
        return one is not two and within and len(two.nodes) < len(one.nodes)

    branches = [b for b in free if b.kind == "branch"]
    layers = sorted((b for b in free if b.kind == "block"), key=lambda b: len(b.nodes))
    units: dict[str, Block] = {}
    around = {
        b.name: next((e for e in layers if holds(e, b)), b)
        for b in branches if not any(holds(b, o) for o in branches)
    }  # fmt: skip
    for branch in branches:
        if branch.name in around:
            layer = around[branch.name]
            # A layer that holds the layer of another branch stands aside.
            unit = branch if any(holds(layer, o) for o in around.values() if o.kind == "block") else layer
            units[unit.name] = unit
    # Layers without branches: the largest that are not part of a branch.
    for layer in reversed(layers):
        apart = not any(holds(b, layer) or holds(layer, b) for b in branches)
        if apart and not any(holds(u, layer) for u in units.values()):
            units[layer.name] = layer
    return [b for b in free if b.name in units]


def choose_depth(
    groups: Groups, saliency: Mapping[str, float], share: float, comparable: bool
) -> tuple[str, ...]:
    """Names of the blocks to remove so that a share of them is kept.

    Args:
        groups: the model's.
        saliency: from :func:`secateur.scoring.score_blocks`.
        share: of the units kept, above 0 and at most 1.
        comparable: whether saliencies of different stages may be ranked together; if not, each is first divided by
            the mean of its stage.

    Raises:
        RecipeError: the share is out of range, or the model has no block that can go.
        Infeasible: a stage would lose all of its layers; names the smallest share possible.
    """
    if not 0 < share <= 1:
        raise RecipeError(
            f"depth={share} must be above 0 and at most 1: it is the share of the blocks that stay"
        )
    units = depth_units(groups.blocks)
    if not units:
        raise RecipeError(
            "depth= needs residual branches or repeated blocks, and the model has none that can go"
        )
    stages = {u.name: stage_of(u) for u in units}
    size, total = Counter(stages.values()), defaultdict[str, float](float)
    for unit in units:
        total[stages[unit.name]] += saliency[unit.name]
    value = {
        n: saliency[n] if comparable else saliency[n] * size[s] / max(total[s], 1e-30)
        for n, s in stages.items()
    }
    # Where others of a list cannot go, something is left in any case.
    spare = {
        s: n if _others(groups, s, [u.name for u in units if stages[u.name] == s]) else n - 1
        for s, n in size.items()
    }
    wanted, removed = len(units) - max(1, round(share * len(units))), list[str]()
    for name in sorted(value, key=value.__getitem__):
        if len(removed) < wanted and spare[stages[name]] > 0:
            spare[stages[name]] -= 1
            removed.append(name)
    if len(removed) < wanted:
        nearest = (len(units) - len(removed)) / len(units)
        raise Infeasible(
            f"depth={share:g} keeps {len(units) - wanted} of {len(units)} blocks, but each stage needs one; "
            f"the nearest possible is depth={nearest:.3g}",
            nearest,
        )
    return tuple(u.name for u in units if u.name in removed)


def compare_depths(
    groups: Groups,
    saliency: Mapping[str, float],
    loss: Callable[[tuple[str, ...]], float | None],
    most: int = 16,
    patience: int = 2,
) -> list[tuple[tuple[str, ...], float | None]]:
    """What is lost without none, one, two and more blocks, the least important first, until it only gets worse.

    Args:
        groups: the model's.
        saliency: comparable between stages, as for :func:`choose_depth`.
        loss: of a model without these blocks; None where there is none such.
        most: blocks that are tried, at most.
        patience: further blocks that do worse than the best before the search ends.

    Returns:
        The names that were removed and the loss, in the order in which they were tried.
    """
    units = len(depth_units(groups.blocks))
    tried: list[tuple[tuple[str, ...], float | None]] = []
    for count in range(min(most, units - 1) + 1):
        try:
            removed = choose_depth(groups, saliency, 1 - count / units, comparable=True) if count else ()
        except Infeasible:
            break  # a stage would be empty
        tried.append((removed, loss(removed)))
        losses = [float("inf") if value is None else value for _, value in tried]
        best = losses.index(min(losses))
        if losses[best] < float("inf") and count - best >= patience:
            break
    return tried


def stage_of(block: Block) -> str:
    """The list that a block stands in, ``"layer1."`` for ``"layer1.0"``; empty where its name has no number."""
    parts = block.name.partition("#")[0].split(".")
    for numbered in (str.isdigit, lambda part: part[-1:].isdigit()):
        for i in range(len(parts) - 1, -1, -1):
            if numbered(parts[i]):
                return ".".join(parts[: i + 1]).rstrip("0123456789")
    return ""


def _others(groups: Groups, stage: str, units: Sequence[str]) -> bool:
    """Whether a list has layers besides those that the units stand in."""
    if not stage:
        return False
    listed = {
        name[: len(stage) + len(number)]
        for name in groups.coupling.state_axes
        if name.startswith(stage) and groups.graph.tensor(name).dim() > 1
        if (number := name[len(stage) :].partition(".")[0]).isdigit()
    }
    return any(not any(u == e or u.startswith((e + ".", e + "#")) for u in units) for e in listed)
