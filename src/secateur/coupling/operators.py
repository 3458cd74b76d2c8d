"""All there is to know of an operator that a user teaches: its rule, and what its arguments say about sizes.

A rule alone is enough for an operator whose arguments hold no sizes. Where one holds the length of an axis, saying
which is enough for the cut program and for the reference that it is checked against.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from secateur.coupling.facts import Axis, Facts
from secateur.coupling.rules import Rule
from secateur.coupling.values import Arguments, Value
from secateur.errors import RequestError
from secateur.graph import bind, hint

SizeOf = tuple[str, int] | str
"""A tensor argument's name and its axis, or the name of an axis that the rule kept with ``f.note(name, axis)``."""


@dataclass(frozen=True)
class Operator:
    """An operator of the user's own.

    Args:
        rule: states what the operator does to labels, and returns the axes of its outputs.
        sizes: whole-number arguments that are lengths of axes, ``{argument: (tensor argument, axis)}``, or
            ``{argument: name}`` for an axis that the rule keeps with ``f.note(name, axis)``.
        rewrite: changes the call in the cut program where ``sizes`` cannot say it; sees a ``Call``.
        macs: for the arguments by name and the (first) output, the axes whose lengths multiply to the operator's
            multiply-adds, one tuple for each product; without it, the operator costs none.
    """

    rule: Rule
    sizes: Mapping[str, SizeOf] = field(default_factory=dict)
    rewrite: Callable[[Any], None] | None = None
    macs: Callable[[dict[str, Any], Value], list[tuple[Axis, ...]]] | None = None

    def axes_of_sizes(
        self, node: fx.Node, values: Mapping[fx.Node, Any], notes: Mapping[str, Axis]
    ) -> dict[str, Axis]:
        """For each argument that holds a size, the axis whose length it is."""
        given = bind(node)
        found = {}
        for argument, where in self.sizes.items():
            found[argument] = notes[where] if isinstance(where, str) else values[given[where[0]]][where[1]]
        return found

    def checked(self, facts: Facts, arguments: Arguments) -> Any:
        """The rule's answer, once each declared size has been found to be what it is declared to be.

        Raises:
            RequestError: an argument or a note that is not there, or a number that is not that length.
        """
        result, node = self.rule(facts, arguments), arguments.node
        notes, given = facts.notes.get(node, {}), bind(node)
        for argument, where in self.sizes.items():
            if argument not in given:
                raise RequestError(
                    f"{node.target} has no argument '{argument}', which its Operator(sizes=...) names; "
                    f"it has {', '.join(given)}"
                )
            try:
                axis = notes[where] if isinstance(where, str) else getattr(arguments, where[0]).axes[where[1]]
            except (KeyError, AttributeError, IndexError) as error:
                raise RequestError(
                    f"Operator(sizes=...) of {node.target} takes '{argument}' from {where!r}, which is not there: "
                    "name a tensor argument and its axis, or an axis that the rule keeps with f.note(name, axis)"
                ) from error
            value = given[argument]
            number = value.meta["val"] if isinstance(value, fx.Node) else value
            if hint(number) != len(axis):
                raise RequestError(
                    f"Operator(sizes=...) of {node.target} says that '{argument}' is the length of {where!r}, "
                    f"but the model passes {hint(number)} where that length is {len(axis)}"
                )
        return result


def as_operators(rules: Mapping[str, Rule | Operator] | None) -> dict[str, Operator]:
    """Rules and operators as operators.

    Raises:
        RequestError: a name without a namespace, or something that is neither.
    """
    found = {}
    for name, given in (rules or {}).items():
        if "::" not in name:
            raise RequestError(
                f"rules={{'{name}': ...}} names no operator; write it as it is registered: 'namespace::{name}'"
            )
        if not isinstance(given, Operator) and not callable(given):
            raise RequestError(
                f"rules={{'{name}': ...}} expects a rule f(facts, arguments) or an Operator; got {type(given).__name__}"
            )
        found[name] = given if isinstance(given, Operator) else Operator(given)
    return found
