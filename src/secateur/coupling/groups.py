"""Groups: interchangeable units, with all the parameter positions that die with each, and what is locked."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import fx

from secateur.coupling.couple import Coupling, couple
from secateur.coupling.rules import Rule
from secateur.coupling.units import Group, collect
from secateur.errors import UnknownName
from secateur.graph import Graph


@dataclass(frozen=True)
class Lock:
    """Positions of a parameter axis that cannot be cut, and why.

    Args:
        param: name of the parameter or buffer.
        axis: which of its axes.
        size: length of the axis.
        positions: how many of its positions are locked.
        operator: the operator whose rule locked it.
        reason: in words.
        source: file and line of the user's code, where the exporter knows it.
        remedy: what would free it.
    """

    param: str
    axis: int
    size: int
    positions: int
    operator: str
    reason: str
    source: str
    remedy: str


@dataclass(frozen=True)
class Groups:
    """All groups of a program, what is locked, and the coupling they come from."""

    graph: Graph
    coupling: Coupling
    groups: tuple[Group, ...]
    locked: tuple[Lock, ...]
    prunable_share: float
    unknown: Mapping[str, int]

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self.groups)

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, name: str) -> Group:
        for group in self.groups:
            if group.name == name:
                return group
        first = f", the first '{self.groups[0].name}'" if self.groups else ""
        raise UnknownName(f"no group is called '{name}'; there are {len(self)}{first}")


def find_groups(graph: Graph, rules: Mapping[str, Rule] | None = None) -> Groups:
    """Finds what can be removed from a traced model, and why the rest cannot.

    Args:
        graph: from :func:`secateur.trace`.
        rules: rules for operators of the user's own, by name.
    """
    coupling = couple(graph, rules)
    groups = collect(coupling)
    locked = tuple(_locks(graph, coupling))
    unknown: dict[str, int] = defaultdict(int)
    for node in coupling.facts.unknown:
        unknown[str(node.target)] += 1
    return Groups(graph, coupling, groups, locked, _prunable_share(graph, coupling), dict(unknown))


_REMEDIES = (
    (
        "output of the model",
        "it is what the model returns; wrap the model so that the output is a smaller part",
    ),
    ("no rule", "teach Secateur the operator: find_groups(graph, rules={...})"),
    (
        "axis of fixed size",
        "what it meets is fixed by the inputs; a fixed adapter in front would let it shrink",
    ),
    (
        "its positions are looked up by index",
        "positions with a fixed meaning, such as a vocabulary, cannot go",
    ),
    ("kernel", "kernels keep their size"),
    ("spatial", "sizes in space follow from the input's"),
)


def _locks(graph: Graph, coupling: Coupling) -> list[Lock]:
    locks = []
    for name, axes in coupling.state_axes.items():
        for i, axis in enumerate(axes):
            pinned = coupling.classes(axis) == 0
            if len(axis) < 2 or not pinned.any():
                continue
            reasons = coupling.solution.reasons[axis[pinned]]
            known = reasons[reasons >= 0]
            pin = coupling.facts.pins[int(known[0])] if len(known) else None
            reason = pin.reason if pin else "every position of it is tied to one that cannot be cut"
            node = pin.node if pin else None
            if "axis of the kernel" in reason:
                continue
            operator = (
                "output" if node is not None and node.op == "output" else str(node.target) if node else "-"
            )
            remedy = next((words for key, words in _REMEDIES if key in reason), "see the line of code named")
            locks.append(
                Lock(name, i, len(axis), int(pinned.sum()), operator, reason, source_of(node), remedy)
            )
    return locks


def source_of(node: fx.Node | None) -> str:
    """The innermost line of the user's code that made a node, ``file:line 'code'``, or ``-``."""
    if node is None:
        return "-"
    home = str(Path(torch.__file__).parent)
    found = re.findall(
        r'File "([^"]+)", line (\d+), in \S+\n\s*(.+)', str(node.meta.get("stack_trace") or "")
    )
    found = [frame for frame in found if not frame[0].startswith(home)] or found
    if not found:
        return "-"
    file, line, code = found[-1]
    return f"{file}:{line} '{code.strip()}'"


def _prunable_share(graph: Graph, coupling: Coupling) -> float:
    """Share of the parameters of which at least one axis position belongs to a unit."""
    free = total = 0.0
    share: dict[int, float] = {}  # by classes, which many axes have in common
    for name, axes in coupling.state_axes.items():
        tensor = graph.tensor(name)
        if isinstance(tensor, torch.nn.Parameter):
            fixed = 1.0
            for axis in axes:
                classes = coupling.classes(axis)
                if id(classes) not in share:
                    share[id(classes)] = float((classes == 0).mean()) if len(axis) else 1.0
                fixed *= share[id(classes)]
            total += tensor.numel()
            free += tensor.numel() * (1.0 - fixed)
    return free / total if total else 0.0
