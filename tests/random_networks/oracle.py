"""A second judge, which shares no code with cutting or verifying: the user's own module, told what is gone.

In a copy of the network, the columns that read removed features are zeroed in every layer, queries of removed
dimensions are zeroed, and norms see the kept positions alone. All it reads is the plan. Where that is not
enough to know what a cut means (an operator without weights reads across a cut axis) the oracle is blind.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.planning import Blocks, Plan
from tests.random_networks.block import Block
from tests.random_networks.network import Network

_CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)

Kept = Mapping[int, Mapping[int, Tensor]]
"""For the identity of a tensor and one of its axes, bool ``[n]``: what the plan keeps."""


class LastAxes(nn.Module):
    """A layer norm or RMS norm that sees the kept positions alone, and gives zeros elsewhere."""

    def __init__(self, norm: nn.LayerNorm | nn.RMSNorm, kept: Mapping[int, Tensor]) -> None:
        super().__init__()
        self.norm, self.kept = norm, kept

    def forward(self, x: Tensor) -> Tensor:
        count = len(self.norm.normalized_shape)
        out = torch.zeros_like(x)
        grid = [
            self.kept.get(i, torch.ones(n, dtype=torch.bool)).nonzero()[:, 0]
            for i, n in enumerate(self.norm.normalized_shape)
        ]
        where = torch.meshgrid(*grid, indexing="ij")
        small, weight = x[(..., *where)], self.norm.weight[where]
        sizes = tuple(small.shape[-count:])
        if isinstance(self.norm, nn.RMSNorm):
            small = F.rms_norm(small, sizes, weight, self.norm.eps)
        else:
            small = F.layer_norm(small, sizes, weight, self.norm.bias[where], self.norm.eps)
        out[(..., *where)] = small
        return out


class Grouped(nn.Module):
    """A group norm that sees the kept channels alone, and gives zeros elsewhere."""

    def __init__(self, norm: nn.GroupNorm, kept: Tensor) -> None:
        super().__init__()
        self.norm, self.kept = norm, kept

    def forward(self, x: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        inner = self.norm.num_channels // self.norm.num_groups
        for g in range(self.norm.num_groups):
            own = self.kept.nonzero()[:, 0]
            own = own[(own >= g * inner) & (own < (g + 1) * inner)]
            if len(own):
                out[:, own] = F.group_norm(
                    x[:, own], 1, self.norm.weight[own], self.norm.bias[own], self.norm.eps
                )
        return out


def masked(network: Network, plan: Plan) -> Network | None:
    """A copy of the network that computes what the plan's cut should; nothing where the oracle is blind."""
    told = copy.deepcopy(network)
    tensors = told.state_dict(keep_vars=True)
    kept: dict[int, dict[int, Tensor]] = {}
    blocks: dict[tuple[int, int], Blocks] = {}
    for name, axes in plan.kept.items():
        if name in tensors:
            tensor = tensors[name]
            kept[id(tensor)] = {a: _mask(tensor.shape[a], indices) for a, indices in axes.items()}
            blocks |= {(id(tensor), a): b for a, b in plan.permuted.get(name, {}).items()}
    for block in told.blocks:
        assert isinstance(block, Block)
        if block.blind or (block.tokens and 0 in kept.get(id(block.get_parameter(block.tokens)), {})):
            return None
        if block.along:
            block.alive = kept.get(id(block.get_parameter(block.along)), {}).get(0)
    with torch.no_grad():
        _zero_queries(told, kept)
        for tensor, axis in _consumed(told):
            gone = kept.get(id(tensor), {}).get(axis)
            if (id(tensor), axis) in blocks:
                _zero_blocks(tensor, axis, blocks[id(tensor), axis], kept[id(tensor)])
            elif gone is not None:
                tensor.index_fill_(axis, (~gone).nonzero()[:, 0], 0.0)
    _restrict_norms(told, kept)
    return told


def _zero_blocks(tensor: Tensor, axis: int, blocks: Blocks, kept: Mapping[int, Tensor]) -> None:
    """Zeroes what each block of rows that stays does not keep; rows that are gone are read by nobody."""
    whole = torch.ones(tensor.shape[blocks.over], dtype=torch.bool)
    rows = kept.get(blocks.over, whole).nonzero()[:, 0].split(blocks.rows)
    for own, indices in zip(rows, blocks.indices, strict=True):
        part = tensor.index_select(blocks.over, own)
        part.index_fill_(axis, (~_mask(tensor.shape[axis], indices)).nonzero()[:, 0], 0.0)
        tensor.index_copy_(blocks.over, own, part)


def _mask(size: int, indices: tuple[int, ...]) -> Tensor:
    mask = torch.zeros(size, dtype=torch.bool)
    mask[list(indices)] = True
    return mask


def _consumed(network: Network) -> Iterator[tuple[Tensor, int]]:
    """Weights and the axis along which each is summed over."""
    for module in network.modules():
        if isinstance(module, _CONV):
            yield module.weight, 1
        elif isinstance(module, _TRANSPOSED):
            yield module.weight, 0
        elif isinstance(module, nn.MultiheadAttention):
            yield module.in_proj_weight, 1
        elif isinstance(module, Block):
            for name, axes in module.consumes.items():
                for axis in axes:
                    yield module.get_parameter(name), axis


def _zero_queries(network: Network, kept: Kept) -> None:
    """Zeroes the rows of queries that are gone: what they would meet in the keys then adds nothing."""
    for block in network.blocks:
        assert isinstance(block, Block)
        for prefix, first, last in block.queries:
            own = [p for name, p in block.named_parameters() if name.startswith(prefix)]
            for tensor in own:
                mask = kept.get(id(tensor), {}).get(0)
                if mask is not None:
                    rows = (~mask).nonzero()[:, 0]
                    tensor[rows[(rows >= first) & (rows < last)]] = 0.0


def _restrict_norms(network: Network, kept: Kept) -> None:
    for parent in list(network.modules()):
        for name, module in list(parent.named_children()):
            if not isinstance(module, (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)):
                continue
            assert module.weight is not None
            gone = kept.get(id(module.weight), {})
            if gone:
                told = (
                    Grouped(module, gone[0]) if isinstance(module, nn.GroupNorm) else LastAxes(module, gone)
                )
                setattr(parent, name, told)


@contextmanager
def plain_attention() -> Iterator[None]:
    """torch's fused encoder reads weights past the modules that hold them: not here."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
