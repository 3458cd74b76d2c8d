"""Mistakes put into a cut program: every number that a rewrite wrote, off by one or as it was before.

A mutant must be refused, unless it computes the same after all (a slice whose end lies past the axis).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.utils import _pytree as pytree

from secateur.coupling import Groups
from secateur.errors import NotVerified
from secateur.graph import bind, op_name
from secateur.planning import dead_atoms
from secateur.surgery import REWRITES, Emitted, Sizes, emit, verify
from tests.random_networks.subject import Broken, Subject, apart, random_plan, run

MOST = 8
"""Mutants of one network, at most."""


def rewritten(emitted: Emitted) -> Iterator[tuple[fx.Node, fx.Node]]:
    """Calls of the old program whose arguments hold sizes and were changed, and what they became."""
    for old, new in emitted.nodes.items():
        if old.op == "call_function" and op_name(old) in REWRITES and _written(old, new):
            yield old, new


def _written(old: fx.Node, new: fx.Node) -> dict[str, Any]:
    """The new call's arguments by name, those that a rewrite changed."""
    before, after = bind(old), bind(new)
    same = old.target is new.target
    numbers = {k: v for k, v in after.items() if _numbers(v) or (v is None and same)}
    return {k: v for k, v in numbers.items() if not same or not _equal(before[k], v)}


def _equal(before: Any, after: Any) -> bool:
    ours, theirs = pytree.tree_leaves(before), pytree.tree_leaves(after)
    pairs = zip(ours, theirs, strict=True) if len(ours) == len(theirs) else [(0, 1)]
    return all(isinstance(a, fx.Node) or isinstance(b, fx.Node) or a == b for a, b in pairs)


def _numbers(value: Any) -> bool:
    return any(isinstance(v, (int, float)) and not isinstance(v, bool) for v in pytree.tree_leaves(value))


def mistakes(old: fx.Node, new: fx.Node) -> Iterator[tuple[str, dict[str, Any]]]:
    """Wrong arguments for a rewritten call, each with what is wrong."""
    before, same = bind(old), old.target is new.target
    for name, value in _written(old, new).items():
        if same and not any(isinstance(v, fx.Node) for v in pytree.tree_leaves(before[name])):
            yield f"{name} as it was", {name: before[name]}
        leaves, spec = pytree.tree_flatten(value)
        for i, leaf in enumerate(leaves):
            if isinstance(leaf, bool) or not isinstance(leaf, (int, float)) or leaf in (-1, 2**63 - 1):
                continue
            for changed in (leaf + 1, leaf - 1) if isinstance(leaf, int) else (leaf * 1.1,):
                wrong = pytree.tree_unflatten([*leaves[:i], changed, *leaves[i + 1 :]], spec)
                yield f"{name} {wrong} for {value}", {name: wrong}
        if isinstance(value, (list, tuple)) and len(set(value)) > 1 and not same:
            yield f"{name} reversed", {name: list(reversed(value))}


@contextmanager
def mistaken(node: fx.Node, wrong: dict[str, Any]) -> Iterator[None]:
    """A call with wrong arguments, for a while."""
    args, kwargs = node.args, node.kwargs
    given = {**bind(node), **wrong}
    schema = node.target._schema  # type: ignore[union-attr]
    node.args = tuple(given[a.name] for a in schema.arguments if not a.kwarg_only)
    node.kwargs = {
        a.name: given[a.name]
        for a in schema.arguments
        if a.kwarg_only and (a.name in kwargs or a.name in wrong)
    }
    try:
        yield
    finally:
        node.args, node.kwargs = args, kwargs


def is_refused(groups: Groups, emitted: Emitted, equal_inputs: bool = False) -> bool:
    """Whether the check refuses a program."""
    try:
        verify(groups, emitted, torch.float64, equal_inputs=equal_inputs)
    except NotVerified:
        return True
    return False


def mutants(s: Subject, rng: np.random.Generator) -> None:
    """Numbers made wrong in a random cut: each is refused, or computes the same."""
    alive = s.groups.coupling.alive(dead_atoms(s.groups, random_plan(s.groups, rng)))
    emitted = emit(s.groups, Sizes(s.groups.coupling, alive))
    if is_refused(s.groups, emitted, equal_inputs=True):
        raise Broken("mutants", "the right program is refused node by node")
    found = [(new, *m) for old, new in rewritten(emitted) for m in mistakes(old, new)]
    inputs = s.network.examples(seed=3)
    expected = run(emitted.module, inputs)
    for i in rng.permutation(len(found))[:MOST].tolist():
        node, words, wrong = found[i]
        with mistaken(node, wrong):
            # Both ways of looking: along the whole program, and at each node by itself.
            if all(is_refused(s.groups, emitted, equal_inputs) for equal_inputs in (False, True)):
                continue
            emitted.module.recompile()
            error = apart(run(emitted.module, inputs), expected)
        emitted.module.recompile()
        if error > 1e-9:
            raise Broken(
                "mutants", f"{node.name}, {words}: not refused, though outputs differ by {error:.2g}"
            )
