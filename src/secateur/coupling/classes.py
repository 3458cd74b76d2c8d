"""Classes of labels that must live and die together: the connected components of what was made equal.

Most pairs are two whole axes as they were made, each a block of consecutive labels. These are united as blocks,
whatever their length; what remains is united label by label, in passes over arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

import numpy as np

from secateur.coupling.facts import Axis

Pair = tuple[Axis, Axis]
Key = TypeVar("Key")


def distinct(values: np.ndarray) -> np.ndarray:
    """The different numbers of an array, ascending.

    As ``np.unique``, whose hash table takes several times as long for arrays like these.
    """
    ordered = np.sort(values, axis=None)
    first = np.ones(len(ordered), dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return ordered[first]


class DisjointSets(Generic[Key]):
    """Things that are united two by two; each set has one root."""

    def __init__(self) -> None:
        self.parent: dict[Key, Key] = {}

    def root(self, key: Key) -> Key:
        """What stands for the set of ``key``."""
        path = []
        while self.parent.setdefault(key, key) != key:
            path.append(key)
            key = self.parent[key]
        for passed in path:
            self.parent[passed] = key
        return key

    def unite(self, one: Key, other: Key) -> None:
        """Makes the sets of both one."""
        self.parent[self.root(other)] = self.root(one)


def of_blocks(size: int, pairs: Iterable[Pair], blocks: Mapping[int, Axis]) -> tuple[np.ndarray, list[Pair]]:
    """The class of each label by the pairs of whole blocks alone, and the pairs that are left.

    Args:
        size: number of labels.
        pairs: axes that are equal, position by position.
        blocks: axes of consecutive labels that overlap no other, by identity.

    Returns:
        int64 ``[size]``, the smallest label of each class; and pairs.
    """
    sets, lengths = DisjointSets[int](), dict[int, int]()
    left = []
    for first, second in pairs:
        if id(first) not in blocks or id(second) not in blocks:
            left.append((first, second))
            continue
        low, high = sorted((sets.root(int(first[0])), sets.root(int(second[0]))))
        sets.unite(low, high)
        lengths[int(first[0])] = lengths[int(second[0])] = len(first)
    class_of = np.arange(size)
    for start, length in lengths.items():
        class_of[start : start + length] -= start - sets.root(start)
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
