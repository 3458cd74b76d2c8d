"""The same operator in differently wide networks.

Runtimes fuse and reorder by what they find: a width that does not fill a block brings a reordering with it. Most nodes
keep their names; those that do are anchors. What stands between two anchors is matched by kind and order, and what is
not found in every network is added to the anchor before it: it is there because of that one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from secateur.bench import Node, Profile

_COUNTED = re.compile(
    r"_token_[0-9]+"
)  # named by a count of the runtime's own rewrites, so not by their place


@dataclass(frozen=True)
class Aligned:
    """One operator over all networks.

    Args:
        name: how it is called in the first.
        op: its kernel.
        shapes: for each network, of its inputs and outputs.
        shares: float64 ``[networks]``, of the reference's time.
    """

    name: str
    op: str
    shapes: tuple[tuple[tuple[int, ...], ...], ...]
    shares: np.ndarray


def align(profiles: Sequence[Profile]) -> list[Aligned]:
    """The operators that every network has, in the order of the first; their shares hold the others' too."""
    named = [_named(profile.nodes) for profile in profiles]
    anchors = {name for name in set(named[0]).intersection(*named[1:]) if not _COUNTED.search(name)}
    gaps = [_between(found, anchors) for found in named]
    common = [key for key in gaps[0] if all(key in other for other in gaps[1:])]
    known = set(common)
    shares = {key: np.zeros(len(profiles)) for key in common}
    for i, found in enumerate(gaps):
        home = common[0]
        for key, node in found.items():
            home = key if key in known else home
            shares[home][i] += node.share
    return [
        Aligned(gaps[0][key].name, gaps[0][key].op, tuple(found[key].shapes for found in gaps), shares[key])
        for key in common
    ]


def _named(nodes: Sequence[Node]) -> dict[str, Node]:
    """Nodes by kernel and name, each once."""
    seen: Counter[str] = Counter()
    found = {}
    for node in nodes:
        name = f"{node.op} {node.name}"
        seen[name] += 1
        found[f"{name} {seen[name]}"] = node
    return found


def _between(nodes: dict[str, Node], anchors: set[str]) -> dict[tuple[str, str, int], Node]:
    """Nodes by the anchor before them, their kernel, and which of that kernel they are; an anchor stands for itself."""
    anchor, seen = "", Counter[str]()
    found = {}
    for name, node in nodes.items():
        if name in anchors:
            anchor, seen = name, Counter()
            found[(anchor, "", 0)] = node
        else:
            seen[node.op] += 1
            found[(anchor, node.op, seen[node.op])] = node
    return found
