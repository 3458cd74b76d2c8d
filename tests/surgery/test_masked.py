"""A check that shares nothing with ours: zero the columns that read removed units in the user's own module.

In double precision, for groups that no norm, softmax or mean reads across. The table names, for each group, the
weights that consume its units; zeroing there makes a removed unit worth nothing, whatever its activation is.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from secateur.coupling import find_groups
from secateur.graph import trace
from secateur.planning import plan_of
from secateur.surgery import cut_groups
from secateur.task import Inputs, call
from tests.zoo import ZOO

# {network: {first member of a group, with its units: what reads the units}}; queries and keys meet in a product,
# so that zeroing the queries' rows is enough.
CONSUMERS: dict[str, dict[str, str]] = {
    "plain": {"conv1.weight:0": "conv2.weight:1", "conv2.weight:0": "fc.weight:1"},
    "residual": {"stem.weight:0": "conv1.weight:1 fc.weight:1", "conv1.weight:0": "conv2.weight:1"},
    "option_a": {
        "stem.weight:0": "conv1.weight:1 fc.weight:1",
        "conv1.weight:0": "conv2.weight:1",
        "conv2.weight:0": "fc.weight:1",
    },
    "depthwise": {"stem.weight:0": "pw.weight:1", "dw.weight:0": "pw.weight:1", "pw.weight:0": "fc.weight:1"},
    "grouped": {
        "reduce.weight:0": "conv.weight:1",
        "reduce.weight:0#2": "expand.weight:1",
        "conv.weight:0": "expand.weight:1",
        "expand.weight:0": "fc.weight:1",
    },
    "dense": {
        "stem.weight:0": "one.weight:1 two.weight:1 fc.weight:1", "one.weight:0": "two.weight:1 fc.weight:1",
        "two.weight:0": "fc.weight:1",
    },
    "shuffle": {
        "stem.weight:0": "last.weight:1",
        "stem.weight:0#2": "branch.weight:1",
        "last.weight:0": "fc.weight:1",
    },
    "squeeze_excite": {"stem.weight:0": "down.weight:1 fc.weight:1", "down.weight:0": "up.weight:1"},
    "transposed": {
        "stem.weight:0": "up1.weight:0", "up1.weight:1": "last.weight:1", "up1.weight:1#2": "up2.weight:0",
        "up2.weight:1": "last.weight:1",
    },
    "pixel_shuffle": {"conv1.weight:0": "conv2.weight:1", "conv2.weight:0": "last.weight:1"},
    "conv1d": {"conv1.weight:0": "conv2.weight:1", "conv2.weight:0": "fc.weight:1"},
    "conv3d": {"conv1.weight:0": "conv2.weight:1", "conv2.weight:0": "fc.weight:1"},
    "in_place": {"conv1.weight:0": "conv2.weight:1 fc.weight:1"},
    "maxout": {"left.weight:0": "fc.weight:1"},
    "two_inputs": {"conv.weight:0": "fc.weight:1"},
    "two_outputs": {"conv1.weight:0": "conv2.weight:1"},
    "einsum": {"weight:1": "back:0", "weight:2": "back:1", "back:2": "head.weight:1"},
    "unknown": {"fc1.weight:0": "fc2.weight:1", "fc3.weight:0": "fc4.weight:1"},
    "gated": {
        "wide.weight:0": "gate.weight:1 up.weight:1",
        "gate.weight:0": "down.weight:1",
        "down.weight:0": "head.weight:1",
    },
    "mixer": {"token1.weight:0": "token2.weight:1"},
    "separate": {
        "q.weight:0": "o.weight:1",
        "q.weight:0#2": "q.weight:0 q.bias:0",
        "v.weight:0": "o.weight:1",
    },
    "gqa_repeat": {
        "q.weight:0": "q.weight:0",
        "q.weight:0#2": "o.weight:1",
        "q.weight:0#3": "o.weight:1",
        "v.weight:0": "o.weight:1",
        "o.weight:0": "head.weight:1",
    },
    "gqa_enable": {
        "q.weight:0": "q.weight:0",
        "q.weight:0#2": "o.weight:1",
        "q.weight:0#3": "o.weight:1",
        "v.weight:0": "o.weight:1",
        "o.weight:0": "head.weight:1",
    },
    "vit_chunk": {
        "qkv.weight:0": "proj.weight:1",
        "qkv.weight:0#2": "qkv.weight:0 qkv.bias:0",
        "qkv.weight:0#3": "proj.weight:1",
        "fc1.weight:0": "fc2.weight:1",
    },
    "encoder": {
        "layer.self_attn.in_proj_weight:0": "layer.self_attn.out_proj.weight:1",
        "layer.linear1.weight:0": "layer.linear2.weight:1",
    },
    "tied_head": {"fc1.weight:0": "fc2.weight:1"},
}  # fmt: skip


def double(inputs: Inputs) -> Inputs:
    if isinstance(inputs, Mapping):
        return {k: v.double() for k, v in inputs.items()}
    assert isinstance(inputs, Tensor)
    return inputs.double() if inputs.is_floating_point() else inputs


@pytest.mark.parametrize("name", CONSUMERS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_users_own_module_with_zeroed_columns(name: str, seed: int) -> None:
    model = ZOO[name].model().double()
    inputs = double(ZOO[name].inputs(4))
    groups = find_groups(trace(model, inputs))
    rng = np.random.default_rng(seed)
    masked, dead = copy.deepcopy(model), []
    named = dict(masked.named_parameters())
    removed = 0
    for group_name, consumers in CONSUMERS[name].items():
        group = groups[group_name]
        gone = rng.permutation(group.units)[: rng.integers(1, group.units)] if group.units > 1 else []
        dead.append(group.atoms[gone])
        removed += len(gone)
        for consumer in consumers.split():
            param, _, axis = consumer.partition(":")
            member = next(m for m in group.members if (m.param, m.axis) == (param, int(axis)))
            positions = torch.from_numpy(member.positions[gone].reshape(-1))
            with torch.no_grad():
                named[param].index_fill_(int(axis), positions, 0.0)
    assert removed > 0
    small = cut_groups(groups, plan_of(groups, np.concatenate(dead))).module
    with torch.no_grad():
        expected = torch.utils._pytree.tree_leaves(call(masked, inputs))
        found = torch.utils._pytree.tree_leaves(call(small, inputs))
        untouched = torch.utils._pytree.tree_leaves(call(model, inputs))
    for a, b, c in zip(found, expected, untouched, strict=True):
        assert float((a - b).abs().max()) <= 1e-10 * float(b.abs().max())
        assert a.shape == c.shape
    assert any(not torch.allclose(b, c) for b, c in zip(expected, untouched, strict=True))
