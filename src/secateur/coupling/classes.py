"""Classes of labels that must live and die together: the connected components of what was made equal.

Most pairs are two whole axes as they were made, each a block of consecutive labels. These are united as blocks,
whatever their length; what remains is united label by label, in passes over arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from secateur.coupling.facts import Axis

Pair = tuple[Axis, Axis]


def of_blocks(size: int, pairs: Iterable[Pair], blocks: Mapping[int, Axis]) -> tuple[np.ndarray, list[Pair]]:
    """The class of each label by the pairs of whole blocks alone, and the pairs that are left.

    Args:
        size: number of labels.
        pairs: axes that are equal, position by position.
        blocks: axes of consecutive labels that overlap no other, by identity.

    Returns:
        int64 ``[size]``, the smallest label of each class; and pairs.
    """
    parent: dict[int, int] = {}
    lengths: dict[int, int] = {}
    left = []

    def root(start: int) -> int:
        while (above := parent.get(start, start)) != start:
            parent[start] = start = parent.get(above, above)
        return start

    for first, second in pairs:
        if id(first) not in blocks or id(second) not in blocks:
            left.append((first, second))
            continue
        ends = int(first[0]), int(second[0])
        lengths[ends[0]] = lengths[ends[1]] = len(first)
        low, high = sorted(map(root, ends))
        parent[high] = low
    class_of = np.arange(size)
    for start, length in lengths.items():
        class_of[start : start + length] -= start - root(start)
    return class_of, left


def united(class_of: np.ndarray, pairs: list[Pair]) -> np.ndarray:
    """The classes after these pairs are made equal too; the smallest label names each class."""
    first = class_of[np.concatenate([a for a, _ in pairs])]
    second = class_of[np.concatenate([b for _, b in pairs])]
    parent = np.arange(len(class_of))
    while len(differs := np.nonzero(first != second)[0]):
        first, second = first[differs], second[differs]
        # Each class goes under the smallest that it meets, and then all under their last ancestor.
        np.minimum.at(parent, np.maximum(first, second), np.minimum(first, second))
        while ((above := parent[parent]) != parent).any():
            parent = above
        first, second = parent[first], parent[second]
    return parent[class_of]
