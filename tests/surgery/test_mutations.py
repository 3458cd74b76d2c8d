"""Every operator whose arguments hold sizes: a wrong number in a cut program is refused, whichever number it is.

For each entry of the table of rewrites there is a network that uses it. A cut of the network passes; then every
number that the rewrite wrote is made wrong, one at a time, and the rewrite is left out, and each time the
check has to refuse. What cannot be told because it is no mistake: an end of a slice that lies past the axis anyway, and
a view's -1, which no rewrite writes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.coupling import Groups, find_groups
from secateur.graph import op_name, trace
from secateur.surgery import REWRITES, Emitted, Sizes, emit, verify
from tests.random_networks.mutants import is_refused, mistaken, mistakes, rewritten
from tests.zoo.case import randomise

aten = torch.ops.aten


class Net(nn.Module):
    """``a``, an operator, ``b``: layers around a line of code."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.line = case.line
        self.a, self.b = case.layers()

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.line(self.a(x)))


@dataclass(frozen=True)
class Case:
    """A line of code between two layers, for one operator."""

    operator: str
    line: Callable[[Tensor], Tensor]
    layers: Callable[[], tuple[nn.Module, nn.Module]]
    inputs: tuple[int, ...]


def linear(o: int, i: int) -> Callable[[], tuple[nn.Module, nn.Module]]:
    """``8 -> o``, the line, ``i -> 4``."""
    return lambda: (nn.Linear(8, o), nn.Linear(i, 4))


def conv(o: int, i: int) -> Callable[[], tuple[nn.Module, nn.Module]]:
    """``3 -> o`` channels, the line, ``i -> 4``."""
    return lambda: (nn.Conv2d(3, o, 1), nn.Conv2d(i, 4, 1))


def flat(name: str, line: Callable[[Tensor], Tensor], o: int = 12, i: int = 12) -> Case:
    return Case(f"aten::{name}", line, linear(o, i), (3, 8))


def maps(name: str, line: Callable[[Tensor], Tensor], o: int = 12, i: int = 12) -> Case:
    return Case(f"aten::{name}", line, conv(o, i), (2, 3, 4, 4))


class Weighted(nn.Module):
    """A layer given as a call with a weight of its own."""

    def __init__(self, call: Callable[[Tensor, Tensor], Tensor], *shape: int) -> None:
        super().__init__()
        self.call, self.weight = call, nn.Parameter(torch.randn(*shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x, self.weight)


def weighted(
    name: str, call: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...], inputs: tuple[int, ...]
) -> Case:
    """A convolution in groups between two plain ones."""
    kinds = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}
    kind = kinds[len(inputs)]
    return Case(
        f"aten::{name}", lambda h: h,
        lambda: (nn.Sequential(kind(inputs[1], 12, 1), Weighted(call, *shape)), kind(12, 4, 1)), inputs,
    )  # fmt: skip


def heads(h: Tensor) -> Tensor:
    return h.view(h.shape[0], 5, 2, 6).transpose(1, 2)


def attend(h: Tensor) -> Tensor:
    q, k, v = (heads(t) * 3 for t in h.chunk(3, -1))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def groups_of_two(h: Tensor) -> Tensor:
    return F.group_norm(h, 3)


def pieces(parts: tuple[Tensor, ...]) -> Tensor:
    """Parts that cannot change places."""
    return torch.cat([p * (k + 2) for k, p in enumerate(parts)], 1)


CREATED = {
    "zeros": lambda h: h + torch.zeros(12),
    "ones": lambda h: h + torch.ones(12),
    "full": lambda h: h + torch.full((12,), 0.5),
    "empty": lambda h: h + torch.empty(12).zero_(),
    "new_zeros": lambda h: h + h.new_zeros(12),
    "new_ones": lambda h: h + h.new_ones(12),
    "new_full": lambda h: h + h.new_full((12,), 0.5),
    "new_empty": lambda h: h + h.new_empty(12).zero_(),
    "rand": lambda h: h + torch.rand(12) * 0,
    "randn": lambda h: h + torch.randn(12) * 0,
}

CASES = (
    flat("view", lambda h: h.view(h.shape[0], 3, 4).transpose(1, 2).reshape(h.shape[0], 12)),
    flat("reshape", lambda h: h.reshape(h.shape[0], 3, 4).softmax(1).flatten(1)),
    flat("_unsafe_view", lambda h: aten._unsafe_view(h, [h.shape[0], 3, 4]).softmax(1).flatten(1)),
    flat("reshape_as", lambda h: h.reshape_as(h.unflatten(1, (3, 4))).softmax(1).flatten(1)),
    flat("view_as", lambda h: h.view_as(h.unflatten(1, (3, 4))).softmax(1).flatten(1)),
    flat("unflatten", lambda h: h.unflatten(1, (3, 4)).softmax(1).flatten(1)),
    flat("expand", lambda h: h[:, None].expand(-1, 3, -1).flatten(1), i=36),
    flat("broadcast_to", lambda h: h[:, None].broadcast_to(h.shape[0], 3, 12).flatten(1), i=36),
    flat("repeat", lambda h: h.repeat(1, 3), i=36),
    flat("tile", lambda h: h.tile(1, 3), i=36),
    flat("repeat_interleave", lambda h: h.repeat_interleave(3, 1), i=36),
    *(flat(name, line) for name, line in CREATED.items()),
    flat("slice", lambda h: h[:, 2:8], i=6),
    flat("narrow", lambda h: h.narrow(1, 2, 6), i=6),
    flat("select", lambda h: h + h.select(1, 5)[:, None]),
    flat("split", lambda h: pieces(h.split(5, 1))),
    flat("split_with_sizes", lambda h: pieces(h.split([2, 7, 3], 1))),
    flat("chunk", lambda h: pieces(h.chunk(3, 1))),
    flat("tensor_split", lambda h: pieces(h.tensor_split(5, 1))),
    flat("unsafe_chunk", lambda h: pieces(h.unsafe_chunk(3, 1))),
    flat("unsafe_split", lambda h: pieces(h.unsafe_split(5, 1))),
    weighted("conv1d", lambda x, w: F.conv1d(x, w, groups=4), (12, 3, 1), (2, 3, 6)),
    weighted("conv2d", lambda x, w: F.conv2d(x, w, groups=4), (12, 3, 1, 1), (2, 3, 4, 4)),
    weighted("conv3d", lambda x, w: F.conv3d(x, w, groups=4), (12, 3, 1, 1, 1), (2, 3, 2, 2, 2)),
    weighted("convolution",
             lambda x, w: aten.convolution(x, w, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 4),
             (12, 3, 1, 1), (2, 3, 4, 4)),
    weighted("conv_transpose1d", lambda x, w: F.conv_transpose1d(x, w, groups=4), (12, 3, 2), (2, 3, 6)),
    weighted("conv_transpose2d", lambda x, w: F.conv_transpose2d(x, w, groups=4), (12, 3, 2, 2), (2, 3, 4, 4)),
    weighted("conv_transpose3d", lambda x, w: F.conv_transpose3d(x, w, groups=4), (12, 3, 1, 1, 1), (2, 3, 2, 2, 2)),
    maps("group_norm", groups_of_two),
    maps("channel_shuffle", lambda h: F.channel_shuffle(h, 3)),
    maps("native_channel_shuffle", lambda h: F.native_channel_shuffle(h, 3)),
    flat("layer_norm", lambda h: F.layer_norm(h, (12,))),
    flat("rms_norm", lambda h: F.rms_norm(h, (12,))),
    flat("pad", lambda h: F.pad(h, (2, 4), value=0.5), i=18),
    flat("constant_pad_nd", lambda h: aten.constant_pad_nd(h, [2, 4], 0.5), i=18),
    Case("aten::scaled_dot_product_attention", attend, linear(36, 12), (2, 5, 8)),
)  # fmt: skip


@cache
def cut(case: Case) -> tuple[Groups, Emitted]:
    """The network of a case with random units of every group cut; whoever changes the program puts it back."""
    torch.manual_seed(0)
    model = Net(case).eval()
    randomise(model)
    groups = find_groups(trace(model.double(), torch.randn(*case.inputs, dtype=torch.float64)))
    rng = np.random.default_rng(3)
    dead = [rng.permutation(g.atoms)[: (g.units + 1) // 3] for g in groups]
    alive = groups.coupling.alive(np.concatenate(dead))
    return groups, emit(groups, Sizes(groups.coupling, alive))


def test_every_case_has_a_rewrite() -> None:
    assert {c.operator for c in CASES} <= set(REWRITES) and len(CASES) > 20


@pytest.mark.parametrize("case", CASES, ids=[c.operator for c in CASES])
def test_every_wrong_number_is_refused(case: Case) -> None:
    groups, emitted = cut(case)
    assert verify(groups, emitted, torch.float64).max_relative_error < 1e-12
    calls = [(old, new) for old, new in rewritten(emitted) if op_name(old) == case.operator]
    assert calls, "the cut changes no argument of the operator"
    tried = 0
    for old, new in calls:
        for words, wrong in mistakes(old, new):
            with mistaken(new, wrong):
                assert is_refused(groups, emitted), f"{new.name}: {words}"
            tried += 1
    assert tried > 1
    assert verify(groups, emitted, torch.float64).max_relative_error < 1e-12  # all was put back


@pytest.mark.parametrize("case", CASES, ids=[c.operator for c in CASES])
def test_every_tensor_out_of_order_is_refused(case: Case) -> None:
    groups, emitted = cut(case)
    tensors = dict(emitted.module.named_parameters())
    for name, tensor in tensors.items():
        for axis in range(tensor.dim()):
            if tensor.shape[axis] > 1:
                before = tensor.detach().clone()
                with torch.no_grad():
                    tensor.copy_(before.roll(1, axis))
                    assert is_refused(groups, emitted), f"{name} rolled along {axis}"
                    tensor.copy_(before)


def test_a_node_that_is_not_there_is_refused() -> None:
    """Every call of every case left out, where its input has the shape of its output."""
    told = 0
    for case in CASES:
        groups, emitted = cut(case)
        for new in emitted.nodes.values():
            if new.op == "call_function" and op_name(new) in ("aten::relu", "aten::softmax", "aten::mul"):
                target, args, kwargs = new.target, new.args, new.kwargs
                new.target, new.args, new.kwargs = aten.alias.default, new.args[:1], {}
                assert is_refused(groups, emitted), new.name
                new.target, new.args, new.kwargs = target, args, kwargs
                told += 1
    assert told > 10
