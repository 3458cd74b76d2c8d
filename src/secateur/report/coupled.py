"""What the picture of a model's groups shows: weights in the order of the program, and strands that run through them.

A *strand* is a group, or axes that are locked as one. A weight writes a strand (its outputs), reads it (its inputs), or
passes it on (a depthwise convolution). Blocks that repeat, weight by weight and strand by strand, are folded into one:
their own strands are the same in each, and what they share with the rest is the same strand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from secateur.report.causes import held
from secateur.report.names import name_range, pattern


@dataclass(frozen=True)
class Mark:
    """Where a weight meets a strand.

    Args:
        strand: key of the strand.
        mode: ``writes``, ``reads`` or ``passes``.
        axis: of the weight.
        positions: that each unit takes there.
    """

    strand: str
    mode: str
    axis: int
    positions: int


@dataclass(frozen=True)
class Weight:
    """One parameter with two axes and more."""

    param: str
    shape: tuple[int, ...]
    params: float
    prunable: float
    marks: tuple[Mark, ...]

    @property
    def path(self) -> tuple[str, ...]:
        """The parts of its name, without a last ``weight``."""
        parts = self.param.split(".")
        return tuple(parts[:-1] if parts[-1] == "weight" and len(parts) > 1 else parts)


@dataclass(frozen=True)
class Strand:
    """A group, or axes that are locked as one.

    Args:
        key: of it in this picture.
        name: of the group; for a lock its first axis.
        units: that can go one by one; for a lock the positions.
        params: at its positions.
        kind: ``stream`` (written again after it was read: a residual), ``channels``, ``wide`` (a unit takes several
            positions, as a head does), or ``locked``.
        reason: why it is locked, in words.
        cause: the same in one word, with the name of the input or output.
        positions: that a unit takes where it is first made.
        layers: how many weights it couples.
    """

    key: str
    name: str
    units: int
    params: float
    kind: str
    reason: str = ""
    cause: str = ""
    positions: int = 1
    layers: int = 0


@dataclass(frozen=True)
class Block:
    """Consecutive parts of the model that are alike: the first one's name and lines, and how often."""

    first: str
    title: str
    times: int
    lines: tuple[Line, ...]


Line = Weight | Block


@dataclass(frozen=True)
class Coupled:
    """What the picture shows."""

    lines: tuple[Line, ...]
    strands: Mapping[str, Strand]


def coupled(record: Mapping[str, Any]) -> Coupled:
    """The weights and strands of an analysis, repeated blocks folded.

    Args:
        record: the content of ``analysis.json``.
    """
    weights, strands = _read(record)
    rows: dict[str, list[int]] = {}
    for i, weight in enumerate(weights):
        for mark in weight.marks:
            rows.setdefault(mark.strand, []).append(i)
    lines = _fold([(i, w) for i, w in enumerate(weights)], 0, rows, strands)
    return Coupled(tuple(lines), strands)


def _read(record: Mapping[str, Any]) -> tuple[list[Weight], dict[str, Strand]]:
    marks: dict[str, list[Mark]] = {}
    strands: dict[str, Strand] = {}
    shapes = {w["param"]: tuple(w["shape"]) for w in record.get("weights", ())}
    together: dict[str, list[Mapping[str, Any]]] = {}
    for group in record["groups"]:
        key = f"group {group['name']}"
        for axis in group["axes"]:
            if axis["param"] in shapes:
                mode = _mode(shapes[axis["param"]], axis)
                marks.setdefault(axis["param"], []).append(
                    Mark(key, mode, axis["axis"], axis["multiplicity"])
                )
        strands[key] = Strand(key, group["name"], group["units"], group["params"], "channels")
    for lock in record["locked"]:
        if lock["param"] not in shapes:
            continue
        key = f"lock {lock['component']}"
        mode = _mode(shapes[lock["param"]], lock)
        marks.setdefault(lock["param"], []).append(Mark(key, mode, lock["axis"], 1))
        together.setdefault(key, []).append(lock)
    for key, locks in together.items():
        strands[key] = _locked(key, locks)
    weights = [
        Weight(
            w["param"], tuple(w["shape"]), w["params"], w["prunable_share"], tuple(marks.get(w["param"], ()))
        )
        for w in record.get("weights", ())
    ]
    return weights, _described(weights, strands)


def _locked(key: str, locks: Sequence[Mapping[str, Any]]) -> Strand:
    lock = locks[0]
    quoted = re.search(r"'.+'", lock["reason"]) if lock["kind"] in ("input", "output") else None
    named = quoted is not None and quoted[0] != "'output'"
    cause = f"{lock['kind']} {quoted[0]}" if quoted and named else lock["kind"]
    name = f"{lock['param']}:{lock['axis']}"
    units = max(lock["positions"] for lock in locks)
    return Strand(key, name, units, held(locks), "locked", lock["reason"], cause)


def _mode(shape: Sequence[int], axis: Mapping[str, Any]) -> str:
    if axis["reads"]:
        return "reads"
    depthwise = len(shape) > 2 and shape[1] == 1 and axis["axis"] == 0
    return "passes" if depthwise else "reads" if axis.get("kind") == "lookup" else "writes"


def _described(weights: Sequence[Weight], strands: Mapping[str, Strand]) -> dict[str, Strand]:
    """Strands with their kind, told from the order in which they are written and read."""
    seen: dict[str, list[Mark]] = {}
    for weight in weights:
        for mark in sorted(weight.marks, key=lambda m: m.mode != "reads"):
            seen.setdefault(mark.strand, []).append(mark)
    out = {}
    for key, met in seen.items():
        modes = [m.mode for m in met]
        made = next((m for m in met if m.mode != "reads"), met[0])
        first = modes.index("reads") if "reads" in modes else len(modes)
        kind = "stream" if "writes" in modes[first:] else "wide" if made.positions > 1 else "channels"
        kind = "locked" if strands[key].kind == "locked" else kind
        out[key] = replace(strands[key], kind=kind, positions=made.positions, layers=len(met))
    return out


Numbered = tuple[int, Weight]


def _fold(
    rows: Sequence[Numbered], depth: int, where: Mapping[str, Sequence[int]], strands: Mapping[str, Strand]
) -> Iterator[Line]:
    """Lines for weights that share the first ``depth`` parts of their names."""
    runs = [list(run) for _, run in groupby(rows, key=lambda r: r[1].path[: depth + 1])]
    described = [_signature(run, depth + 1, where, strands) for run in runs]
    i = 0
    while i < len(runs):
        j = i + 1
        while j < len(runs) and described[j] == described[i]:
            j += 1
        names = [".".join(run[0][1].path[: depth + 1]) for run in runs[i:j]]
        inside = _inside(runs[i], depth + 1, where, strands)
        if j - i > 1:
            yield Block(names[0], name_range(names), j - i, inside)
        else:
            yield from inside
        i = j


def _inside(
    run: Sequence[Numbered], depth: int, where: Mapping[str, Sequence[int]], strands: Mapping[str, Strand]
) -> tuple[Line, ...]:
    if len(run[0][1].path) > depth:
        return tuple(_fold(run, depth, where, strands))
    return tuple(weight for _, weight in run)


def _signature(
    run: Sequence[Numbered], depth: int, where: Mapping[str, Sequence[int]], strands: Mapping[str, Strand]
) -> tuple[object, ...]:
    """What two blocks must share to be folded: names inside, shapes, and strands, their own ones by order."""
    own = {i for i, _ in run}
    local: dict[str, int] = {}

    def strand(key: str) -> tuple[object, ...]:
        if not own.issuperset(where[key]):
            return ("shared", key)
        s = strands[key]
        return ("own", local.setdefault(key, len(local)), s.units, s.kind, s.reason)

    name = pattern(".".join(run[0][1].path[:depth]))
    rows = tuple(
        (w.path[depth:], w.shape, tuple((m.mode, m.axis, m.positions, *strand(m.strand)) for m in w.marks))
        for _, w in run
    )
    return (name, rows)
