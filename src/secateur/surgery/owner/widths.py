"""A plan from shapes alone: which widths make a model's tensors as large as those of a pruned one.

Enough to write stored weights into the user's class: what was kept is in the weights, only how many matters.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import prod

import numpy as np

from secateur.coupling import Groups
from secateur.planning import Plan, plan_of
from secateur.surgery.owner.symbolic import Poly, SymbolicSizes


def plan_for_shapes(groups: Groups, shapes: Mapping[str, tuple[int, ...]]) -> Plan | None:
    """A plan that gives parameters these shapes, keeping the first units; None if no widths do.

    Args:
        groups: of the model at its full widths.
        shapes: by parameter or buffer name; names that the model does not have are passed over.
    """
    sizes = SymbolicSizes(groups)
    wanted = [
        (sizes.of(axis), shapes[name][i])
        for name, axes in groups.coupling.state_axes.items()
        if name in shapes and len(shapes[name]) == len(axes)
        for i, axis in enumerate(axes)
    ]
    shares: dict[int, Fraction] = {}
    found = True
    while found:
        found = False
        for poly, size in wanted:
            if isinstance(poly, Poly):
                for group, share in _solved(poly, size, shares).items():
                    shares[group], found = share, True
    everything = [shares.get(i, Fraction(1)) for i in range(len(groups))]
    if any((p.at(everything) if isinstance(p, Poly) else p) != size for p, size in wanted):
        return None
    dead = [g.atoms[int(s * g.units) :] for g, s in zip(groups, everything, strict=True)]
    return plan_of(groups, np.concatenate(dead) if dead else np.empty(0, dtype=np.int64))


def _solved(poly: Poly, size: int, shares: Mapping[int, Fraction]) -> dict[int, Fraction]:
    """The share of the one group in ``poly`` that is not known yet, where it is one and stands alone."""
    open_groups = poly.groups - shares.keys()
    if len(open_groups) != 1:
        return {}
    (group,) = open_groups
    known = slope = Fraction(0)
    for key, count in poly.terms:
        value = count * prod((shares[g] for g in key if g != group), start=Fraction(1))
        if key.count(group) > 1:
            return {}
        if group in key:
            slope += value
        else:
            known += value
    return {group: (size - known) / slope} if slope else {}
