"""Labels and the facts that operator rules state about them.

Every axis of every value carries an int64 array with one label for each position; label 0 is pinned.
Arrays are shared objects: a pointwise operator hands its operand's arrays on. Rules state three kinds
of facts, each with the node it came from: two axes are equal position by position, an axis is pinned
for a reason, and a product ``P[i, j, ...]`` lives where all of its factors live.

Suffixes: an ``Axis`` of size n is ``[n]``; a product over factors ``[n1], [n2], ...`` is ``[n1 * n2 * ...]``,
row-major.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
from torch import fx

Axis = np.ndarray
"""int64 ``[n]``: the label of each position of an axis."""

KERNEL_AXIS = "it is an axis of the kernel"

Axes = tuple[Axis, ...]
"""The axes of one tensor."""


@dataclass(frozen=True)
class Origin:
    """What first made an axis fixed: it travels with the axis, through everything that the axis meets.

    Args:
        reason: in words.
        node: where in the program.
        made: whether the operator made the axis at a fixed size, as opposed to locking one that was free.
    """

    reason: str
    node: fx.Node | None
    made: bool = False


@dataclass(frozen=True)
class Pin:
    """Why positions cannot be removed: reason, node and made as of an :class:`Origin`; ``at`` is where they met it."""

    labels: Axis
    reason: str
    node: fx.Node | None
    made: bool = False
    at: fx.Node | None = None


@dataclass(frozen=True)
class Product:
    """``keep(whole[i, j, ...]) = keep(factors[0][i]) and keep(factors[1][j]) and ...``."""

    whole: Axis
    factors: tuple[Axis, ...]
    node: fx.Node | None


@dataclass(frozen=True)
class Mixing:
    """An operator reads across an axis: a contraction (mask and go on) or a norm, softmax or mean (restrict).

    ``ordered`` if it matters which position is next to which, so that units there are not alike.
    """

    node: fx.Node
    argument: str
    axis: int
    labels: Axis
    restricts: bool
    ordered: bool = False


@dataclass
class Facts:
    """What the rules have stated so far; the one mutable object of this room.

    ``notes`` keeps axes that a rewrite needs later, such as the group axis of a grouped convolution; ``consumed``
    those that an operator sums over, of the operand that is not masked: a layer's weight, along its inputs. ``ties``
    is the history of what was made equal, by the rules and by the solver, with the node that each came from; ``met``
    has the causes of pinned axes that met, with their size. ``blocks`` are the axes as they were made, by identity:
    consecutive labels, and no two overlap.
    """

    size: int = 1
    equal: list[tuple[Axis, Axis]] = field(default_factory=list)
    ties: list[tuple[Axis, Axis, fx.Node | None]] = field(default_factory=list)
    pins: list[Pin] = field(default_factory=list)
    products: list[Product] = field(default_factory=list)
    mixings: list[Mixing] = field(default_factory=list)
    notes: dict[fx.Node, dict[str, Axis]] = field(default_factory=dict)
    unknown: list[fx.Node] = field(default_factory=list)
    consumed: list[Axis] = field(default_factory=list)
    node: fx.Node | None = None
    met: dict[tuple[Origin | None, Origin | None, int], None] = field(default_factory=dict)
    blocks: dict[int, Axis] = field(default_factory=dict)
    _zeros: dict[tuple[int, Origin | None], Axis] = field(default_factory=dict)
    _origins: dict[int, tuple[Axis, Origin | None]] = field(default_factory=dict)
    _last: Origin | None = None
    _factors: dict[int, tuple[Axis, tuple[Axis, ...]]] = field(default_factory=dict)
    _merged: dict[tuple[int, ...], Axis] = field(default_factory=dict)
    _parts: dict[tuple[int, int, int], tuple[Axis, Axis]] = field(default_factory=dict)

    # -- making axes ---------------------------------------------------------------------------------

    def fresh(self, n: int) -> Axis:
        """New labels, free of each other; an axis of size one is pinned."""
        if n <= 1:
            return self.pinned(n)
        axis = np.arange(self.size, self.size + n, dtype=np.int64)
        self.size += n
        self.blocks[id(axis)] = axis
        return axis

    def pinned(self, n: int, reason: str = "") -> Axis:
        """A pinned axis of size ``n``; one shared array for each size and cause.

        Args:
            n: its size.
            reason: why it is fixed; otherwise what the current node pinned for first.
        """
        last = self._last if self._last is not None and self._last.node is self.node else None
        cause = Origin(reason, self.node, made=True) if reason else last
        if cause is None and self.node is not None:
            cause = Origin("", self.node, made=True)
        return self._fixed(n, cause)

    def like(self, axis: Axis, n: int) -> Axis:
        """The pinned axis of size ``n`` that a pinned axis becomes: its cause goes on."""
        return self._fixed(n, self.cause_of(axis))

    def _fixed(self, n: int, cause: Origin | None) -> Axis:
        key = (n, cause if n > 1 else None)
        if key not in self._zeros:
            self._zeros[key] = np.zeros(n, dtype=np.int64)
            self._origins[id(self._zeros[key])] = (self._zeros[key], key[1])
        return self._zeros[key]

    def cause_of(self, *axes: Axis) -> Origin | None:
        """Why pinned axes are: the first cause known."""
        for axis in axes:
            for known in (axis, axis.base):
                cause = self._origins.get(id(known), (None, None))[1]
                if cause is not None:
                    return cause
        return None

    def part(self, axis: Axis, start: int, stop: int) -> Axis:
        """Positions ``start`` to ``stop`` of an axis: the axis itself for all of it, one object for each part."""
        start, stop = max(start, 0), min(stop, len(axis))
        if start == 0 and stop == len(axis):
            return axis
        if stop - start <= 1 and not self.is_pinned(axis):
            return self.pin(axis[start:stop], "the program takes this one position of the axis by itself")
        if self.is_pinned(axis):
            return self.like(axis, max(stop - start, 0))
        return self._parts.setdefault((id(axis), start, stop), (axis, axis[start:stop]))[1]

    @property
    def parts(self) -> Iterator[tuple[Axis, int, int]]:
        """Axes that were free when an operator took part of them, and from where to where."""
        return ((axis, start, stop) for (_, start, stop), (axis, _) in self._parts.items())

    def is_pinned(self, axis: Axis) -> bool:
        """Whether an axis is known to be pinned already, before solving."""
        # Looking at the first position settles most cases, at a tenth of the price of looking at all.
        return id(axis) in self._origins or not ((len(axis) and axis[0]) or axis.any())

    # -- stating facts -------------------------------------------------------------------------------

    def same(self, *axes: Axis) -> Axis:
        """States that axes of one size live and die together; returns one of them, a pinned one if any."""
        first = next((a for a in axes if self.is_pinned(a)), axes[0])
        fixed, cause = self.is_pinned(first), self.cause_of(first)
        for axis in axes:
            if axis is first:
                continue
            if fixed and self.is_pinned(axis):
                self.met[cause, self.cause_of(axis), len(axis)] = None
            elif fixed:
                self._pin(axis, cause or Origin("", self.node, made=True))
            else:
                self.equal.append((first, axis))
                self.ties.append((first, axis, self.node))
        return first

    def pin(self, axis: Axis, reason: str) -> Axis:
        """Locks an axis; returns the pinned axis of its size. One that is pinned already keeps its first cause."""
        known = self.is_pinned(axis)
        cause = Origin(reason, self.node, made=known)
        last = self._last if self._last is not None and self._last.node is self.node else None
        # What comes out of the operator is fixed for what it locked first, whatever else it needs.
        if reason != KERNEL_AXIS and (last is None or (last.made and not known)):
            self._last = cause
        if known:
            return axis
        self._pin(axis, cause)
        return self._fixed(len(axis), cause)

    def _pin(self, axis: Axis, cause: Origin) -> None:
        self.pins.append(Pin(axis, cause.reason, cause.node, cause.made, self.node))

    def join(self, axes: Sequence[Axis]) -> Axis:
        """Axes end to end. Pinned parts among free ones get labels of their own, which keep their causes."""
        if all(self.is_pinned(a) for a in axes):
            return self._fixed(sum(len(a) for a in axes), self.cause_of(*axes))
        return np.concatenate([self._labelled(a) for a in axes])

    def _labelled(self, axis: Axis) -> Axis:
        cause = self.cause_of(axis) if self.is_pinned(axis) else None
        if cause is None:
            return axis
        axis = self.fresh(len(axis))
        self._pin(axis, cause)
        return axis

    def contract(self, argument: str, axis: int, labels: Axis, other: Axis | None = None) -> None:
        """The current node sums over an axis of ``argument``, together with the axis ``other``."""
        if other is not None:
            self.consumed.append(other)
            labels = self.same(labels, other)
        self._mix(argument, axis, labels, restricts=False)

    def reduce(self, argument: str, axis: int, labels: Axis, ordered: bool = False) -> None:
        """The current node normalises or averages over an axis: removed positions change the rest.

        ``ordered`` if it does so over neighbours.
        """
        self._mix(argument, axis, labels, True, ordered)

    def _mix(self, argument: str, axis: int, labels: Axis, restricts: bool, ordered: bool = False) -> None:
        assert self.node is not None
        if not self.is_pinned(labels):
            self.mixings.append(Mixing(self.node, argument, axis, labels, restricts, ordered))

    def note(self, name: str, axis: Axis) -> None:
        """Keeps an axis of the current node for its rewrite."""
        assert self.node is not None
        self.notes.setdefault(self.node, {})[name] = axis

    # -- products ------------------------------------------------------------------------------------

    def split(self, axis: Axis, sizes: Sequence[int]) -> list[Axis]:
        """The factors of an axis, row-major, with sizes whose product is its length.

        Factors that are known are used again, so that splitting what was merged creates nothing.
        """
        sizes = tuple(sizes)
        if len(sizes) == 1:
            return [axis]
        if self.is_pinned(axis):
            return [self.like(axis, n) for n in sizes]
        if 1 in sizes:
            inner = iter(self.split(axis, [n for n in sizes if n > 1]))
            return [next(inner) if n > 1 else self.pinned(1) for n in sizes]
        if id(axis) not in self._factors:
            factors = tuple(self.fresh(n) for n in sizes)
            self._record(axis, factors)
            return list(factors)
        known = self._factors[id(axis)][1]
        parts = refine([len(f) for f in known], sizes)
        if parts is None:  # overlapping factorisations: the solver settles them
            factors = tuple(self.fresh(n) for n in sizes)
            self.products.append(Product(axis, factors, self.node))
            return list(factors)
        pieces = [p for f, part in zip(known, parts.of_first, strict=True) for p in self.split(f, part)]
        out, start = [], 0
        for part in parts.of_second:
            out.append(self.merge(pieces[start : start + len(part)]))
            start += len(part)
        return out

    def merge(self, factors: Sequence[Axis]) -> Axis:
        """The axis whose positions are the combinations of the factors' positions, row-major."""
        factors = tuple(f for f in factors if len(f) != 1)
        if not factors:
            return self.pinned(1)
        if len(factors) == 1:
            return factors[0]
        if all(self.is_pinned(f) for f in factors):
            # The innermost cause: the outermost is as a rule the batch, which says the least.
            return self._fixed(prod(len(f) for f in factors), self.cause_of(*factors[::-1]))
        factors = tuple(p for f in factors for p in self._factors.get(id(f), (f, (f,)))[1])
        key = self._key(factors)
        if key not in self._merged:
            free = [i for i, f in enumerate(factors) if not self.is_pinned(f)]
            sizes = [len(f) for f in factors]
            if len(free) == 1:
                whole = broadcast(factors[free[0]], free[0], sizes).reshape(-1).copy()
                self._factors[id(whole)] = (whole, factors)
            else:
                whole = self.fresh(prod(sizes))
                self._record(whole, factors)
            self._merged[key] = whole
        return self._merged[key]

    def _record(self, whole: Axis, factors: tuple[Axis, ...]) -> None:
        self.products.append(Product(whole, factors, self.node))
        self._factors[id(whole)] = (whole, factors)
        self._merged[self._key(factors)] = whole

    def _key(self, factors: tuple[Axis, ...]) -> tuple[int, ...]:
        """Factors by identity; of pinned ones only the size matters."""
        return tuple(-len(f) if self.is_pinned(f) else id(f) for f in factors)

    def reshape(self, axes: Axes, source: Sequence[int], target: Sequence[int]) -> Axes:
        """The axes after a row-major reshape from shape ``source`` to shape ``target``."""
        out: list[Axis] = [self.pinned(1)] * len(target)
        for ins, outs in segments(source, target):
            if len(ins) == 1 and len(outs) == 1:
                out[outs[0]] = axes[ins[0]]
                continue
            parts = refine([source[i] for i in ins], [target[o] for o in outs])
            if parts is None:
                fixed = [
                    self.pin(axes[i], "a reshape regroups it in a way that no smaller size fits") for i in ins
                ]
                for o in outs:
                    out[o] = self._fixed(target[o], self.cause_of(*fixed))
                continue
            pieces = [
                p for i, part in zip(ins, parts.of_first, strict=True) for p in self.split(axes[i], part)
            ]
            start = 0
            for o, part in zip(outs, parts.of_second, strict=True):
                out[o] = self.merge(pieces[start : start + len(part)])
                start += len(part)
        return tuple(out)


@dataclass(frozen=True)
class Refinement:
    """Two factorisations of one length, each cut into the pieces of their common refinement."""

    of_first: list[tuple[int, ...]]
    of_second: list[tuple[int, ...]]


def refine(first: Sequence[int], second: Sequence[int]) -> Refinement | None:
    """The common refinement of two row-major factorisations of the same length, if there is one."""
    strides = sorted({*_strides(first), *_strides(second)}, reverse=True)
    if any(big % small for big, small in itertools.pairwise(strides)):
        return None
    return Refinement(_pieces(first, strides), _pieces(second, strides))


def _strides(sizes: Sequence[int]) -> list[int]:
    """Row-major strides, the whole length included: ``[2, 3, 4] -> [24, 12, 4, 1]``."""
    strides = [1]
    for n in reversed(sizes):
        strides.append(strides[-1] * n)
    return strides[::-1]


def _pieces(sizes: Sequence[int], strides: Sequence[int]) -> list[tuple[int, ...]]:
    own = _strides(sizes)
    out = []
    for big, small in itertools.pairwise(own):
        inside = [s for s in strides if small <= s <= big]
        out.append(tuple(a // b for a, b in itertools.pairwise(inside)) or (1,))
    return out


def segments(source: Sequence[int], target: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Shortest runs of axes with equal products; axes of size one stand in none."""
    ins = [i for i, n in enumerate(source) if n != 1]
    outs = [o for o, n in enumerate(target) if n != 1]
    found: list[tuple[list[int], list[int]]] = []
    a = b = 0
    while a < len(ins) and b < len(outs):
        left, right = [ins[a]], [outs[b]]
        m, n = source[ins[a]], target[outs[b]]
        a, b = a + 1, b + 1
        while m != n:
            if m < n:
                left.append(ins[a])
                m, a = m * source[ins[a]], a + 1
            else:
                right.append(outs[b])
                n, b = n * target[outs[b]], b + 1
        found.append((left, right))
    return found


def broadcast(factor: Axis, position: int, sizes: Sequence[int]) -> Axis:
    """A factor's labels over the whole product, shape ``sizes``."""
    shape = [1] * len(sizes)
    shape[position] = sizes[position]
    return np.broadcast_to(factor.reshape(shape), tuple(sizes))
