"""Tiny networks that one can count by hand, with their golden tables."""

from __future__ import annotations

from functools import cache

import numpy as np
from torch import nn

from secateur.coupling import Groups
from secateur.planning import Plan, plan_of
from tests.zoo.attention import CASES as _ATTENTION
from tests.zoo.case import Case, golden, randomise, written
from tests.zoo.convolutions import CASES as _CONVOLUTIONS
from tests.zoo.other import CASES as _OTHER

ZOO: dict[str, Case] = {case.name: case for case in (*_CONVOLUTIONS, *_ATTENTION, *_OTHER)}


@cache
def ready(name: str) -> tuple[nn.Module, Groups]:
    """A network of the zoo and its groups, made once; both are only to be read."""
    model = ZOO[name].model()
    return model, ZOO[name].found(model)


def random_plan(groups: Groups, seed: int) -> Plan:
    """Removes a random number of random units of every group, never all."""
    rng = np.random.default_rng(seed)
    dead = [rng.permutation(g.atoms)[: rng.integers(0, g.units)] for g in groups]
    return plan_of(groups, np.concatenate([np.empty(0, dtype=np.int64), *dead]))


def random_free_plan(groups: Groups, seed: int) -> Plan:
    """Removes random units, other ones in each head, each group of a convolution, and the like."""
    rng = np.random.default_rng(seed)
    contexts = {c.within.name for c in groups.contexts.values()}
    dead, orders = [np.empty(0, dtype=np.int64)], {}
    for group in groups:
        least = group.units // 3 if group.name in contexts else 0
        keep = rng.integers(max(least, 1), max(group.units, 2))
        dead.append(rng.permutation(group.atoms)[keep:])
        if group.name in groups.contexts:
            units = np.arange(group.units)
            orders[group.name] = rng.permuted(
                np.tile(units, (groups.contexts[group.name].shape[0], 1)), axis=1
            )
    return plan_of(groups, np.concatenate(dead), orders)


__all__ = ["ZOO", "Case", "golden", "random_free_plan", "random_plan", "randomise", "ready", "written"]
