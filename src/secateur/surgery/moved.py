"""Whether a rewritten call takes the positions that it should, told by numbers that all differ.

Values of an example may be equal where positions are not: behind a clamp, all of them may be. A slice that begins one
too late then agrees with the right one. So a call that takes entries and computes nothing is run once more, in the
original and in the cut program, on a tensor in which each entry is another number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from secateur.coupling import Coupling, Value, source_of
from secateur.errors import NotVerified
from secateur.graph import op_name
from secateur.surgery.running import Values
from secateur.surgery.sizes import Sizes

MOVING = frozenset(
    f"aten::{n}"
    for n in ("index", "index_select", "slice", "narrow", "select", "split", "split_with_sizes", "chunk",
              "tensor_split", "unsafe_chunk", "unsafe_split", "channel_shuffle", "native_channel_shuffle", "pad",
              "constant_pad_nd")
)  # fmt: skip
"""Operators whose outputs hold entries of their first argument, which ones their numbers say. Of a reshape or an
expansion the shape of its output says all."""


def check_moved(
    node: fx.Node,
    nodes: Mapping[fx.Node, fx.Node],
    coupling: Coupling,
    sizes: Sizes,
    reference: Values,
    cut: Values,
) -> None:
    """Checks what a call and its counterpart in the cut program do with the entries of their first argument.

    Args:
        node: the call in the original program; nothing is asked of one that computes.
        nodes: for each node of the original program that of the cut one.
        coupling: labels of the original program.
        sizes: what lives.
        reference: values of the original program.
        cut: values of the cut program.

    Raises:
        NotVerified: they are not the same entries.
    """
    if op_name(node) not in MOVING or not node.all_input_nodes:
        return
    source, new = node.all_input_nodes[0], nodes[node]
    axes, out = coupling.values[source], coupling.values[node]
    if not isinstance(axes, Value) or all(sizes.whole(axis) for axis in axes.axes):
        return
    if nodes.get(source) not in new.all_input_nodes:  # a rewrite put something in between
        return
    given = _numbered(reference[source])
    expected = _moved(node, source, given, reference)
    found = _moved(new, nodes[source], sizes.take(given, axes.axes), cut)
    parts = zip(_listed(expected), _listed(out), strict=True)
    if not _same(_listed(found), [sizes.take(value, one.axes) for value, one in parts]):
        raise NotVerified(
            f"the cut takes other positions than the masked original at {node.name} ({node.target}, "
            f"{source_of(node)}); nothing was changed",
            node.name,
        )


def _numbered(value: Tensor) -> Tensor:
    """A tensor of this shape, in which each entry is another number, up to 2 ** 24 of them."""
    return torch.arange(value.numel(), dtype=torch.float32, device=value.device).reshape(value.shape)


def _moved(node: fx.Node, source: fx.Node, value: Tensor, values: Values) -> Any:
    """What a call gives for another value of one argument."""
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: value if n is source else values[n])
    assert callable(node.target)
    return node.target(*args, **kwargs)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (tuple, list)) else [value]


def _same(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    return len(found) == len(expected) and all(
        torch.equal(a, b) for a, b in zip(found, expected, strict=True)
    )
