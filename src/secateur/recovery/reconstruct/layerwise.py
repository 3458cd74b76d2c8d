"""Reconstruction in closed form: after a cut, every layer's weights are solved again, without training or labels.

The dense and the cut program run side by side on calibration inputs, node by node. At each layer the weights are
found that give, from what the layer reads in the *cut* network, what is wanted of it in the *dense* one, in the sense
of least squares: so the error made upstream is taken in (He, Zhang and Sun, "Channel Pruning for Accelerating Very
Deep Neural Networks", ICCV 2017, section 3.1), and the layers after it see the repaired values. What is wanted of a
layer is said in :mod:`secateur.recovery.reconstruct.targets`, how it is fitted in
:mod:`secateur.recovery.reconstruct.moments`.

A layer without a bias gives its constant to the batch norm that reads it, if one does. Layers that read what they read
before are left alone, and so are weights that several calls share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from secateur.graph import Layer, fetch, layer_of, mean_after
from secateur.recovery.reconstruct.moments import Moments, crossed, fit
from secateur.recovery.reconstruct.targets import Affine, Target, target_of
from secateur.recovery.reconstruct.walk import Walk
from secateur.surgery import Cut

ROWS = 40  # for each input of a layer, at least
RECTIFIED = 3  # times that what is wanted below a rectifier is set anew
EXACT = 1e-5  # relative squared error of a layer that has nothing to make up for, or only rounding


@dataclass(frozen=True)
class Solved:
    """One layer.

    Args:
        layer: name of its weight.
        before, after: squared error of what it gives, relative to the variance of what is wanted, with the weights that
            the cut left and with the new ones.
        ridge: how strongly the new ones were held to the old, as a share of the mean variance of the inputs.
    """

    layer: str
    before: float
    after: float
    ridge: float


class Layerwise:
    """One reconstruction, in place.

    Args:
        cut: the cut program, and the dense one that it came from.
        batches: for each batch, what the program's placeholders take, in order.
        masks: for each batch, bool over the first axes of a value: positions that count; None for all.
        rows: positions that a layer is fitted on, at most (more where it has many inputs).
        seed: of their choice.
    """

    def __init__(
        self,
        cut: Cut,
        batches: Sequence[Sequence[Any]],
        masks: Sequence[Tensor | None],
        rows: int,
        seed: int,
    ) -> None:
        groups = cut.prepared.groups
        self.cut, self.masks, self.rows = cut, masks, rows
        self.values = groups.coupling.values
        self.dense = Walk(groups.graph.module, batches)
        self.small = Walk(cut.module, batches)
        self.generator = torch.Generator().manual_seed(seed)
        self.origins: dict[fx.Node, fx.Node] = {}
        for old, new in cut.nodes.items():
            self.origins.setdefault(new, old)  # what stands in for a removed block comes later
        self.order = {node: i for i, node in enumerate(groups.graph.module.graph.nodes)}
        self.shapes = {n: v.shape for n, v in self.values.items() if hasattr(v, "shape")}
        self.uses: dict[str, int] = {}
        for node in cut.module.graph.find_nodes(op="get_attr"):
            self.uses[str(node.target)] = self.uses.get(str(node.target), 0) + len(node.users)

    def run(self) -> tuple[list[Solved], dict[str, str]]:
        """Solves every layer.

        Returns:
            what was solved, and the weights that were left as they are, with the reason.
        """
        solved: list[Solved] = []
        skipped: dict[str, str] = {}
        for node in self.cut.module.graph.nodes:
            layer = layer_of(node, self.cut.module)
            if layer is not None and node in self.origins:
                names = [n for n in (layer.weight, layer.bias) if n is not None]
                if any(self.uses[n] > 1 for n in names):
                    skipped[layer.weight] = "several calls share it"
                elif not fetch(self.cut.module, layer.weight).is_floating_point():
                    skipped[layer.weight] = "it holds no real numbers"
                else:
                    found = self._solve(layer)
                    if found is None:
                        skipped[layer.weight] = "there is nothing to make up for"
                    else:
                        solved.append(found)
            if node.op != "output":
                self.small.to(node)
        return solved, skipped

    def _solve(self, layer: Layer) -> Solved | None:
        old = self.origins[layer.node]
        target = target_of(old, self.order, self.shapes)
        here = target.within(self.cut.nodes)
        if here is None:
            target, here = Target(old), Target(layer.node)
        weight = fetch(self.cut.module, layer.weight)
        after = Affine.of(here.steps, self.cut.module, weight.new_empty(layer.outputs_of(weight)))
        views = self._views(layer, old, target, here)
        self._free(old, target.point)
        start = layer.matrix(weight).double()
        parts = [Moments.of(v.read(), v.wanted(after)) for v in views]
        if not parts:
            return None  # no position of it counts
        mean = mean_after(layer)
        norm = None if mean is None else fetch(self.cut.module, mean)
        intercept = layer.bias is not None or norm is not None
        about = sum(parts[1:], parts[0]).centred() if intercept else sum(parts[1:], parts[0])
        scale = float(about.yy.sum() / about.count)
        if scale <= 0 or float(about.error(start).sum()) <= EXACT * scale:
            return None
        fitted = fit(parts, start, intercept)
        after_fit = float(about.error(fitted.weight).sum())
        for _ in range(RECTIFIED if target.rectified else 0):
            crosses = []
            for view in views:
                x = view.read()
                crosses.append(crossed(x, view.wanted(after, fitted.give(x))))
            xy, y = (sum(part[1:], part[0]) for part in zip(*crosses, strict=True))
            fitted = fitted.again(xy, y, start)
        weight.copy_(layer.weight_of(fitted.weight, weight.shape))
        if layer.bias is not None:
            fetch(self.cut.module, layer.bias).copy_(fitted.constant.reshape(-1))
        elif norm is not None:
            norm.sub_(fitted.constant.reshape(-1).to(norm.dtype))
        return Solved(layer.weight, float(about.error(start).sum()) / scale, after_fit / scale, fitted.ridge)

    def _views(self, layer: Layer, old: fx.Node, target: Target, here: Target) -> list[_View]:
        """What the layer reads and is to give, batch by batch; both programs go on as far as that takes."""
        self.small.before(layer.node)
        if here.other is not None:
            self.small.to(here.other)
        self.dense.held |= {old, target.point}
        self.dense.to(old)
        self.dense.to(target.point)
        views = []
        for dense, small, mask in zip(self.dense.values, self.small.values, self.masks, strict=True):
            own, total = (self._kept(node, dense[node]) for node in (old, target.point))
            count = 0 if own is None else layer.positions(own)
            picks = picked(layer, count, mask, self.rows_of(layer), self.generator)
            if own is None or total is None or not len(picks):
                continue
            picks = picks.to(own.device)
            other = None if here.other is None else layer.rows(small[here.other], picks)
            views.append(
                _View(
                    layer, small[layer.input], picks, layer.rows(total, picks), other, layer.rows(own, picks)
                )
            )
        return views

    def rows_of(self, layer: Layer) -> int:
        """Positions of each batch that are enough."""
        return max(self.rows, ROWS * layer.inputs) // len(self.small.values)

    def _kept(self, node: fx.Node, value: Tensor) -> Tensor | None:
        """A dense value at the positions that are kept; None where the batch is folded into an axis that is cut."""
        axes, sizes = self.values[node].axes, self.cut.sizes
        if any(not sizes.whole(a) and len(a) != n for a, n in zip(axes, value.shape, strict=True)):
            return None
        return sizes.take(value, axes)

    def _free(self, *nodes: fx.Node) -> None:
        for node in dict.fromkeys(nodes):
            self.dense.held.discard(node)
            if all(user in self.dense.done for user in node.users):
                self.dense.let_go(node)


def picked(layer: Layer, count: int, mask: Tensor | None, enough: int, generator: torch.Generator) -> Tensor:
    """Which of ``count`` positions of a layer are looked at: all that count, or a choice of them, int64 ``[P]``.

    Args:
        mask: bool, which positions count; None for all.
        enough: positions at most.
        generator: of the choice.
    """
    every = torch.arange(count)
    if mask is not None and mask.numel() == count and layer.window is None:
        every = mask.reshape(-1).nonzero()[:, 0].cpu()
    if 0 < max(1, enough) < len(every):
        every = every[torch.randint(len(every), (max(1, enough),), generator=generator)]
    return every


@dataclass(frozen=True)
class _View:
    """One batch as a layer sees it, at the positions that were picked.

    Args:
        source: what the layer reads, whole.
        picks: int64 ``[P]``.
        total: the value to be met at the target's point, ``[P, C]``.
        other: the other term there, ``[P, C]``; None where the point is no sum.
        own: the layer's output in the dense network, ``[P, C]``.
    """

    layer: Layer
    source: Tensor
    picks: Tensor
    total: Tensor
    other: Tensor | None
    own: Tensor

    def read(self) -> Tensor:
        """``[P, G, K]``, in single precision at least."""
        return _precise(self.layer.read(self.source, self.picks))

    def wanted(self, after: Affine, given: Tensor | None = None) -> Tensor:
        """What the layer is to give, ``[P, G, O]``.

        Args:
            after: what becomes of the layer's output up to the point.
            given: what it gives: where that and the dense network are both below the rectifier's zero, it may stay.
        """
        total = _precise(self.total)
        other = 0.0 if self.other is None else _precise(self.other)
        if given is not None:
            now = after(given.flatten(1)) + other
            total = torch.where(total > 0, total, now.clamp(max=0.0))
        wanted = torch.where(after.speaks, after.back(total - other), _precise(self.own))
        return wanted.unflatten(1, (self.layer.groups, -1))


def _precise(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
