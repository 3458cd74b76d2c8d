"""How much whole blocks matter: by what they do to the stream on data, or by their weights.

With batches: one minus the cosine similarity of a block's input and output, averaged over samples and positions.
That is the Block Influence of Men et al., "ShortGPT: Layers in Large Language Models are More Redundant Than You
Expect" (2024), equation 1; He et al., "What Matters in Transformers? Not All Attention is Needed" (2024) use it for
attention and MLP apart, and Gromov et al., "The Unreasonable Ineffectiveness of the Deeper Layers" (2024) the angle.
Without: the mean magnitude of a block's weights, a rough guide (Kim et al., "Shortened LLaMA", 2024, section 3.2).
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx import _pytree as fx_pytree

from secateur.coupling import Block, Groups, Value, bind
from secateur.errors import DataError, NotFinite
from secateur.graph import Flow, op_name
from secateur.task import split_batch, to_device


def score_blocks(groups: Groups, batches: Iterable[Any] | None = None, most: int = 32) -> dict[str, float]:
    """A saliency for every block that can be removed, by name: the larger, the more it matters.

    Args:
        groups: from :func:`secateur.find_groups`.
        batches: inputs, with or without targets; none for weights alone.
        most: how many batches to look at, at most.

    Returns:
        With batches one minus the mean cosine of what comes in and what goes out, in [0, 2], comparable between
        blocks. Without, the mean of ``|w|``; compare only blocks of one stage.

    Raises:
        DataError: the batches are empty.
        NotFinite: a score is NaN or infinite.
    """
    blocks = [b for b in groups.blocks if not b.locked]
    scores = (
        _magnitudes(groups, blocks)
        if batches is None
        else _influences(groups, blocks, itertools.islice(batches, most))
    )
    for name, score in scores.items():
        if not score < float("inf"):
            raise NotFinite(f"the score of block '{name}' is NaN or infinite; check the weights and the data")
    return scores


def _magnitudes(groups: Groups, blocks: Iterable[Block]) -> dict[str, float]:
    out = {}
    for block in blocks:
        # Shared weights count with each use of them: a block of them has none that go with it.
        names = block.params or tuple(
            str(i.target) for n in block.nodes for i in n.all_input_nodes if i.op == "get_attr"
        )
        tensors = [groups.graph.tensor(n) for n in names if n != "training"]
        weights = [t.detach() for t in tensors if isinstance(t, torch.nn.Parameter) and t.is_floating_point()]
        numbers = sum(w.numel() for w in weights)
        out[block.name] = sum(float(w.double().abs().sum()) for w in weights) / max(numbers, 1)
    return out


def _influences(groups: Groups, blocks: list[Block], batches: Iterable[Any]) -> dict[str, float]:
    module = groups.graph.module
    if len(Flow(module.graph).effects) > 1:  # it writes to its own buffers
        module = copy.deepcopy(module)
    spec = module.graph._codegen.pytree_info.in_spec  # type: ignore[attr-defined]
    device = next((t.device for t in module.parameters()), torch.device("cpu"))
    watch = _Watch(module, blocks, groups)
    count = 0
    with torch.no_grad():
        for batch in batches:
            flat = _flat(to_device(batch, device), groups, spec)
            watch.run(*flat, enable_io_processing=False)
            count += 1
    if not count:
        raise DataError("no batches to score blocks on: the data set is empty")
    return {name: total / count for name, total in watch.totals.items()}


def _flat(batch: Any, groups: Groups, spec: Any) -> list[Any]:
    """The inputs of a batch, with or without its target, as the program's placeholders take them."""
    unlabelled = isinstance(batch, Tensor) or (isinstance(batch, Mapping) and "labels" not in batch)
    inputs = batch if unlabelled else split_batch(batch)[0]
    if isinstance(inputs, Mapping):
        if missing := sorted(set(groups.graph.kwargs) - set(inputs)):
            raise DataError(
                f"a batch has no '{missing[0]}', which the example inputs have; it has {sorted(inputs)}"
            )
        return fx_pytree.tree_flatten_spec(((), {k: inputs[k] for k in groups.graph.kwargs}), spec)
    args = inputs if isinstance(inputs, tuple) else (inputs,)
    if len(args) != len(groups.graph.args):
        raise DataError(f"a batch has {len(args)} inputs; the example inputs were {len(groups.graph.args)}")
    return fx_pytree.tree_flatten_spec((args, {}), spec)


class _Watch(fx.Interpreter):
    """Runs a program and adds up, for each block, how far it turns the stream."""

    def __init__(self, module: fx.GraphModule, blocks: Iterable[Block], groups: Groups) -> None:
        super().__init__(module)
        self.groups = groups
        self.totals: dict[str, float] = {}
        self.seen: dict[str, Tensor] = {}
        self.wanted: set[str] = set()
        self.ends: dict[str, list[Block]] = {}
        for block in blocks:
            self.totals[block.name] = 0.0
            self.ends.setdefault(block.exit.name, []).append(block)
            self.wanted |= {n.name for n in (block.entry, block.term) if n is not None}

    def run_node(self, n: fx.Node) -> Any:
        """Also compares what comes in and out where a block ends; values may be written over, so copies are kept."""
        value = super().run_node(n)
        if n.name in self.wanted:
            self.seen[n.name] = value.detach().clone()
        for block in self.ends.get(n.name, ()):
            before = self.seen[block.entry.name]
            term = self.seen[block.term.name] if block.term is not None else value
            # One branch of several of a sum: as if it were alone.
            alone = block.reader is not block.exit and _factor(block) and term.shape == before.shape
            after = before + _factor(block) * term if alone else value
            self.totals[block.name] += _turned(before, after, self._features(block))
        return value

    def _features(self, block: Block) -> int | None:
        """The axis that holds the features: the one with units."""
        value = self.groups.coupling.values.get(block.exit)
        if not isinstance(value, Value):
            return None
        free = [i for i, axis in enumerate(value.axes) if self.groups.coupling.classes(axis).any()]
        return free[0] if len(free) == 1 else None


def _factor(block: Block) -> float:
    """With which factor a branch's term is added; zero for what is no term of a sum."""
    if block.reader is None or op_name(block.exit).startswith("aten::mul"):
        return 0.0
    if block.argument != "other":
        return 1.0
    sign = -1.0 if op_name(block.reader).startswith("aten::sub") else 1.0
    return sign * float(bind(block.reader)["alpha"])


def _turned(before: Tensor, after: Tensor, features: int | None) -> float:
    """One minus the cosine along the features, averaged over the rest; over whole samples where none are known."""
    before, after = before.double(), after.double()
    if features is None or features == 0:
        before, after, features = before.flatten(1), after.flatten(1), 1
    return 1.0 - float(torch.nn.functional.cosine_similarity(before, after, dim=features).mean())
