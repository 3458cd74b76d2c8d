"""``secateur explain``: one layer, parameter or group: coupled to what, locked by what, kept at which cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from secateur.cli.options import DataName, DataOption, InputShape, ModelArgs, ModelName, Pretrained, Weights
from secateur.cli.screen import count, line, several, table

if TYPE_CHECKING:
    from secateur.coupling import Group, Groups


def explain(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A layer, a parameter, one of its axes, or a group.")
    ],
    model: ModelName,
    model_args: ModelArgs = None,
    weights: Weights = None,
    pretrained: Pretrained = False,
    input: InputShape = None,
    data: DataName = None,
    data_option: DataOption = None,
) -> None:
    """One layer or parameter: what it is coupled to, what locks it, what keeping it costs."""
    from secateur.cli.subject import Subject

    groups = Subject(model, model_args, weights, pretrained, input, data, data_option).groups()
    found, axes = _named(groups, name)
    touching = found if found is not None else _touching(groups, axes)
    for group in touching:
        _show_group(groups, group, axes)
    if found is None:
        _show_locks(groups, axes, touching)


Axes = list[tuple[str, int]]


def _named(groups: Groups, name: str) -> tuple[list[Group] | None, Axes]:
    """Groups of that name, else the axes that a layer or parameter has in the program.

    Raises:
        UnknownName: nothing has that name; the message has the closest.
    """
    from secateur.cli.objects import closest
    from secateur.errors import UnknownName

    shapes = {n: groups.graph.tensor(n).ndim for n in groups.coupling.state_axes}
    named = [g for g in groups if g.name == name or g.name.partition("#")[0] == name]
    param, colon, axis = name.rpartition(":")
    if colon and axis.isdigit() and param in shapes and int(axis) < shapes[param]:
        return None, [(param, int(axis))]
    if named:
        return named, []
    # Tied parameters have one name in the program, folded ones that of what was computed from them.
    wanted = {groups.graph.aliases.get(name, name)}
    wanted |= {new for new, sources in groups.graph.folded.items() if any(_within(s, name) for s in sources)}
    wanted |= {new for old, new in groups.graph.aliases.items() if _within(old, name)}
    axes = [(n, i) for n, dims in shapes.items() if any(_within(n, w) for w in wanted) for i in range(dims)]
    if not axes:
        layers = {n[:i] for n in shapes for i, c in enumerate(n) if c == "."}
        known = sorted({*shapes, *layers, *(g.name for g in groups)})
        raise UnknownName(
            f"no layer, parameter or group of the model is called {name!r}{closest(name, known)}; "
            "'secateur analyze' lists the groups"
        )
    return None, axes


def _within(parameter: str, name: str) -> bool:
    return parameter == name or parameter.startswith(name + ".")


def _touching(groups: Groups, axes: Axes) -> list[Group]:
    wanted = set(axes)
    return [g for g in groups if any((m.param, m.axis) in wanted for m in g.members)]


def _show_group(groups: Groups, group: Group, asked: Axes) -> None:
    one, everything = _held(groups, group, 1), _held(groups, group, group.units)
    line(
        f"group {group.name}: {several(group.units, 'unit')}; a unit costs {count(one[0])} parameters and "
        f"{count(one[1])} multiply-adds, all of them {count(everything[0])} and {count(everything[1])}",
        style="bold",
    )
    rows = []
    for member in group.members:
        size = groups.graph.tensor(member.param).shape[member.axis]
        mark = "asked" if (member.param, member.axis) in asked else ""
        rows.append((member.param, member.axis, size, member.multiplicity, mark))
    table(
        "removing a unit takes these positions with it",
        ("parameter", "axis", "size", "positions for each unit", ""),
        rows,
        right=("axis", "size", "positions for each unit"),
    )


def _held(groups: Groups, group: Group, units: int) -> tuple[int, int]:
    """Parameters and multiply-adds of a sample that go with the first so many units of a group."""
    from secateur.cost import Macs, Params

    before, after = (groups.coupling.alive(group.atoms[:n]) for n in (0, units))
    bound = [cost(groups.graph).bind(groups) for cost in (Params, Macs)]
    params, macs = (round(cost.of(before) - cost.of(after)) for cost in bound)
    return params, macs


def _show_locks(groups: Groups, axes: Axes, touching: list[Group]) -> None:
    wanted = set(axes)
    locks = [lock for lock in groups.locked if (lock.param, lock.axis) in wanted]
    if locks:
        table(
            "locked",
            ("parameter", "axis", "positions", "operator", "why", "code", "what would free it"),
            [
                (k.param, k.axis, f"{k.positions} of {k.size}", k.operator, k.reason, k.source, k.remedy)
                for k in locks
            ],
            right=("axis",),
        )
    reached = {(m.param, m.axis) for g in touching for m in g.members} | {(k.param, k.axis) for k in locks}
    rest = [f"{param}:{axis}" for param, axis in axes if (param, axis) not in reached]
    if rest:
        line(f"of fixed size (axes of kernels, and of length 1): {', '.join(rest)}")
