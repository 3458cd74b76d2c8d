"""Outputs that may shrink. By default none does: what a model returns keeps its shape.

The last layer of a classifier is meant to stay, but in a model without a head the output is the residual stream itself,
and one that stays locks nearly everything. Whoever adapts what reads the output may set it free.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from secateur.errors import RecipeError, UnknownName
from secateur.graph import Graph, Output, outputs

FreeOutputs = bool | Iterable[str | int] | Mapping[str | int, Iterable[int] | None]
"""``True`` for all outputs, names or indices of outputs, or these with axes: ``{"last_hidden_state": [2]}``."""

FreeAxes = Mapping[int, frozenset[int]]
"""For each output that may shrink, by index: which of its axes."""


def free_axes(graph: Graph, asked: FreeOutputs | None) -> FreeAxes:
    """Which axes of which outputs may shrink. Axis 0 is the batch and never does.

    Raises:
        UnknownName: the model returns nothing of that name or index, or the output has no such axis.
        RecipeError: axis 0, or something that is no name, index or list of axes.
    """
    known = outputs(graph)
    if asked is None or asked is False:
        return {}
    if asked is True:
        return {o.index: frozenset(range(1, len(o.shape))) for o in known}
    if isinstance(asked, (str, int)):
        asked = [asked]
    if not isinstance(asked, Iterable):
        raise RecipeError(
            f"free_outputs={asked!r} is not understood; give True, names or indices of outputs, or "
            "{name: [axes]}"
        )
    given = asked if isinstance(asked, Mapping) else dict.fromkeys(asked)
    free: dict[int, frozenset[int]] = {}
    for name, axes in given.items():
        output = _named(known, name)
        chosen = range(1, len(output.shape)) if axes is None else [axes] if isinstance(axes, int) else axes
        free[output.index] = free.get(output.index, frozenset()) | {_axis(output, a) for a in chosen}
    return free


def _named(known: tuple[Output, ...], name: object) -> Output:
    for output in known:
        if name in (output.name, output.index, str(output.index)):
            return output
    close = get_close_matches(str(name), [o.name for o in known], 1)
    hint = f"; did you mean {close[0]}?" if close else ""
    listed = ", ".join(f"{o.index}: {o.name} {list(o.shape)}" for o in known[:8])
    more = f", and {len(known) - 8} more" if len(known) > 8 else ""
    raise UnknownName(f"the model returns nothing called {name!r}{hint}; it returns {listed}{more}")


def _axis(output: Output, axis: object) -> int:
    rank = len(output.shape)
    if not isinstance(axis, int) or not -rank <= axis < rank:
        raise UnknownName(
            f"output '{output.name}' of shape {list(output.shape)} has no axis {axis!r}; "
            f"axes 1 to {rank - 1} can be set free"
        )
    if axis % rank == 0:
        raise RecipeError(
            f"axis 0 of output '{output.name}' is the batch and keeps its size; axes 1 to {rank - 1} can be set free"
        )
    return axis % rank
