"""Units without a fellow: what stands alone in its group can never go, since a group keeps at least one unit.

Such units come from operators that tie many positions together, as repeated channel shuffles do. They are locked like
anything else that cannot be cut, so that they are counted and explained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from torch import fx

from secateur.coupling.couple import Coupling
from secateur.coupling.facts import Axis, Pin
from secateur.coupling.remedies import ONLY, TIED
from secateur.coupling.solve import Solution


def pin_units(coupling: Coupling, units: Mapping[int, Sequence[Axis]]) -> Coupling:
    """The coupling with some atoms pinned.

    Args:
        coupling: as solved.
        units: for each atom, the parameter axes that it stands in.
    """
    solution, facts = coupling.solution, coupling.facts
    class_of, reasons = solution.class_of.copy(), solution.reasons.copy()
    gone = set(units)
    left = {c: tuple(a for a in m if a not in gone) for c, m in solution.monomials.items()}
    for atom, axes in units.items():
        alive = coupling.alive(np.array([atom]))
        left_of = [coupling.keep(axis, alive) for axis in axes]
        labels = max((a[~kept] for a, kept in zip(axes, left_of, strict=True)), key=len)
        empties = not all(kept.any() for kept in left_of)
        dead = [c for c, m in solution.monomials.items() if atom in m and not left[c]]
        mine = np.isin(solution.class_of, [atom, *dead]) & (class_of != 0)
        facts.pins.append(Pin(labels, TIED if empties else ONLY, _factor_of(coupling, atom)))
        class_of[mine], reasons[mine] = 0, len(facts.pins) - 1
    monomials = {c: m for c, m in left.items() if m}
    return replace(coupling, solution=Solution(class_of, monomials, reasons, solution.components))


def _factor_of(coupling: Coupling, atom: int) -> fx.Node | None:
    """The node that makes an atom a factor of a product, if any does."""
    class_of = coupling.solution.class_of
    for product in coupling.facts.products:
        if any(len(f) > 1 and (class_of[f] == atom).any() for f in product.factors):
            return product.node
    return None
