"""Sparsify: zeros among the weights of a whole model, one shot, without training.

Layer by layer, in the order of the program: what a layer reads is what the layers before it give once they are sparse.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from secateur.data import device_of
from secateur.errors import DataError, RecipeError
from secateur.graph import Graph, Layer, fetch, flat_inputs, layer_of, trace
from secateur.recovery import Walk, counting, picked, some_batches
from secateur.sparsity.methods import LargestWeights, Method
from secateur.sparsity.patterns import Pattern, Unstructured
from secateur.sparsity.torch_prune import permanent
from secateur.task import Inputs, to_device

ROWS = 4  # for each input of a layer, at least


@dataclass(frozen=True)
class SparseLayer:
    """One layer.

    Args:
        layer: name of its weight.
        sparsity: share of zeros.
        error: relative squared error of what it gives, by what it read; None where the inputs were not looked at.
    """

    layer: str
    sparsity: float
    error: float | None


@dataclass(frozen=True)
class Sparse:
    """A model with zeros.

    Args:
        model: of the user's own class, in the mode it was in.
        masks: bool, what stays, by the name of the weight; :func:`secateur.sparsity.put_masks` holds them in training.
        layers: in the order of the program.
        skipped: weights that were left as they are, with the reason.
    """

    model: nn.Module
    masks: Mapping[str, Tensor]
    layers: tuple[SparseLayer, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def sparsity(self) -> float:
        """Share of zeros among the weights that have a mask."""
        size = sum(m.numel() for m in self.masks.values())
        return sum(int((~m).sum()) for m in self.masks.values()) / size if size else 0.0


def sparsify(
    model: nn.Module,
    example_inputs: Inputs,
    pattern: Pattern,
    method: Method | None = None,
    inputs: Iterable[Inputs] | None = None,
    *,
    skip: Sequence[str] = (),
    together: bool = False,
    samples: int = 256,
    rows: int = 20_000,
    seed: int = 0,
) -> Sparse:
    """Makes zeros in the weights of a copy of a model.

    Args:
        model: any module that ``torch.export`` takes; it is not changed.
        example_inputs: as for :func:`secateur.trace`.
        pattern: where zeros may stand, and how many.
        method: the largest weights stay by default.
        inputs: batches of inputs without targets, for methods that look at them.
        skip: weights to leave alone, by name, such as those of the last layer.
        together: for :class:`Unstructured` and the largest weights: one threshold for all layers, so that the share of
            zeros differs between them.
        samples: inputs to use, at most.
        rows: positions that moments are made of, at most (more where a layer has many inputs).
        seed: of their choice.

    Raises:
        DataError: the method needs inputs and got none.
        RecipeError: ``together`` with another pattern or method, or a name in ``skip`` that is no layer's weight.
    """
    method = method or LargestWeights()
    if together and not (isinstance(pattern, Unstructured) and isinstance(method, LargestWeights)):
        raise RecipeError(
            "together= is for Unstructured(...) by the largest weights; leave it out for other ones"
        )
    if method.needs_inputs and inputs is None:
        raise DataError(
            f"{type(method).__name__} looks at what layers read: give inputs=, a few batches of them"
        )
    twin = permanent(model)
    graph = trace(twin, example_inputs)
    layers, skipped = _layers(twin, graph, pattern, skip)
    device = device_of(twin)
    batches = (
        [to_device(b, device) for b in some_batches(inputs or (), samples)] if method.needs_inputs else []
    )
    if method.needs_inputs and not batches:
        raise DataError("there are no inputs to look at: the data set is empty")
    walk = Walk(graph.module, [flat_inputs(graph, b) for b in batches])
    hidden = [counting(b) for b in batches]
    generator = torch.Generator().manual_seed(seed)
    masks: dict[str, Tensor] = {}
    records: list[SparseLayer] = []
    threshold = _threshold(layers, graph.module, pattern) if together else None
    with torch.no_grad():
        for layer in layers:
            weight = fetch(graph.module, layer.weight)
            walk.before(layer.node)
            moments = _moments(layer, walk, hidden, rows, generator) if batches else None
            found, keep = [], []
            for group, own in enumerate(_matrices(layer, weight)):
                here = torch.eye(own.shape[1], dtype=torch.float64) if moments is None else moments[group]
                if threshold is not None:
                    stays = own.abs() > threshold
                    new = own * stays
                else:
                    new, stays = method.sparse(own, here.to(own.device), pattern)
                found.append(new)
                keep.append(stays)
            error = None if moments is None else _error(layer, weight, found, moments)
            mask = _shaped(layer, weight, keep).bool()
            weight.copy_(_shaped(layer, weight, found))
            masks[layer.weight] = mask
            records.append(SparseLayer(layer.weight, float((~mask).double().mean()), error))
    return Sparse(
        twin.train(model.training) if twin.training != model.training else twin,
        masks,
        tuple(records),
        skipped,
    )


def compressed_bytes(model: nn.Module, level: int = 6) -> int:
    """Bytes of a model's tensors after deflate: what zeros save in storage, measured.

    Args:
        level: of compression, 1 to 9.
    """
    packer, total = zlib.compressobj(level), 0
    for tensor in (*model.parameters(), *model.buffers()):
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        if flat.numel():
            total += len(packer.compress(flat.view(torch.uint8).numpy().tobytes()))
    return total + len(packer.flush())


def _layers(
    model: nn.Module, graph: Graph, pattern: Pattern, skip: Sequence[str]
) -> tuple[list[Layer], dict[str, str]]:
    module = graph.module
    own = {n for n, _ in model.named_parameters(remove_duplicate=False)} - graph.folded.keys()
    every = [found for n in module.graph.nodes if (found := layer_of(n, module)) is not None]
    uses: dict[str, int] = {}
    for node in module.graph.find_nodes(op="get_attr"):
        uses[str(node.target)] = uses.get(str(node.target), 0) + len(node.users)
    unknown = [n for n in skip if n not in {layer.weight for layer in every}]
    if unknown:
        first = f"; the first that is, is '{every[0].weight}'" if every else ""
        raise RecipeError(f"skip= names '{unknown[0]}', which is no layer's weight{first}")
    chosen, skipped = [], {}
    for layer in every:
        weight = fetch(module, layer.weight)
        reason = pattern.obstacle(layer.outputs_of(weight) // layer.groups, layer.inputs)
        if layer.weight in skip:
            reason = "it was asked to stay"
        elif layer.weight not in own:
            reason = "it is computed from other parameters"
        elif uses[layer.weight] > 1:
            reason = "several calls share it"
        if reason:
            skipped[layer.weight] = reason
        else:
            chosen.append(layer)
    return chosen, skipped


def _order(layer: Layer, weight: Tensor) -> Tensor:
    """int64 ``[K]``: the inputs of a layer, kernel by kernel with the channels innermost."""
    places = torch.arange(layer.inputs, device=weight.device)
    if layer.window is None:
        return places
    return places.reshape(weight.shape[1], -1).T.reshape(-1)


def _matrices(layer: Layer, weight: Tensor) -> list[Tensor]:
    """float64 ``[O, K]`` for each group of a layer, its inputs in their order."""
    return list(layer.matrix(weight.detach().double()).transpose(1, 2)[..., _order(layer, weight)].unbind(0))


def _shaped(layer: Layer, weight: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """The inverse."""
    back = torch.stack([m.to(weight.dtype) for m in matrices])[..., _order(layer, weight).argsort()]
    return layer.weight_of(back.transpose(1, 2), weight.shape)


def _moments(
    layer: Layer, walk: Walk, masks: Sequence[Tensor | None], rows: int, generator: torch.Generator
) -> Tensor:
    """float64 ``[G, K, K]``, the inputs in their order."""
    order = _order(layer, fetch(walk.module, layer.weight))
    enough = max(rows, ROWS * layer.inputs) // len(walk.values)
    total, count = torch.zeros(()), 0
    for values, mask in zip(walk.values, masks, strict=True):
        x = values[layer.input]
        picks = picked(layer, layer.positions_of(x), mask, enough, generator).to(x.device)
        read = layer.read(x, picks).double()[..., order].transpose(0, 1)
        total, count = total + read.mT @ read, count + len(picks)
    return total / max(1, count)


def _threshold(layers: Sequence[Layer], module: torch.fx.GraphModule, pattern: Pattern) -> float:
    """The magnitude below which weights go, over all layers."""
    every = torch.cat([fetch(module, layer.weight).detach().abs().double().reshape(-1) for layer in layers])
    gone = round(pattern.share * len(every))
    return float(every.kthvalue(gone).values) if gone else -1.0


def _error(layer: Layer, weight: Tensor, found: Sequence[Tensor], moments: Tensor) -> float:
    before = _matrices(layer, weight)
    lost = sum(float(((a - b) @ m * (a - b)).sum()) for a, b, m in zip(before, found, moments, strict=True))
    whole = sum(float((a @ m * a).sum()) for a, m in zip(before, moments, strict=True))
    return lost / whole if whole > 0 else 0.0
