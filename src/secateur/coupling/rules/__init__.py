"""The operator table: what each operator of torch's registry says about the labels of its axes.

A rule takes the facts so far and the call's arguments, states facts, and returns the axes of the output, or
a list of them for several outputs. Operators that are tagged pointwise need no entry. An operator without
a rule pins all of its inputs, which is always sound, and is reported.
"""

from collections.abc import Callable, Mapping

from secateur.coupling.facts import Axes, Facts
from secateur.coupling.rules import (
    contractions,
    creation,
    experts,
    fourier,
    indices,
    norms,
    parts,
    pointwise,
    products,
    recurrent,
    shapes,
    spatial,
    vision,
)
from secateur.coupling.values import Arguments

Rule = Callable[[Facts, Arguments], Axes | list[Axes]]

_SUBJECTS = (
    pointwise,
    contractions,
    products,
    norms,
    shapes,
    parts,
    indices,
    spatial,
    creation,
    recurrent,
    experts,
    fourier,
    vision,
)

RULES: Mapping[str, Rule] = {name: rule for subject in _SUBJECTS for name, rule in subject.TABLE.items()}

lock = shapes.lock
elementwise = pointwise.pointwise

__all__ = ["RULES", "Rule", "elementwise", "lock"]
