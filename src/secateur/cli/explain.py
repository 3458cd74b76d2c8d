"""``secateur explain``: one layer, parameter or group: coupled to what, locked by what, kept at which cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from secateur.cli.locks import first_few, shortened, show_causes
from secateur.cli.options import (
    DataName,
    DataOption,
    FreeOutputs,
    InputShape,
    ModelArgs,
    ModelName,
    Pretrained,
    Weights,
)
from secateur.cli.screen import count, line, several, share, table

if TYPE_CHECKING:
    from secateur.coupling import Group, Groups, Lock


def explain(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A layer, a parameter, one of its axes, a group, or what locks: output, input or an operator.",
        ),
    ],
    model: ModelName,
    model_args: ModelArgs = None,
    weights: Weights = None,
    pretrained: Pretrained = False,
    input: InputShape = None,
    data: DataName = None,
    data_option: DataOption = None,
    free_outputs: FreeOutputs = None,
) -> None:
    """One layer or parameter: what it is coupled to, what locks it, what keeping it costs."""
    from secateur.cli.subject import Subject

    groups = Subject(model, model_args, weights, pretrained, input, data, data_option, free_outputs).groups()
    found, axes = _named(groups, name)
    touching = found if found is not None else _touching(groups, axes)
    for group in touching:
        _show_group(groups, group, axes)
    if axes:
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
        axes = [(k.param, k.axis) for k in groups.locked if name in _called(k)]
        if axes:
            return [], axes
        layers = {n[:i] for n in shapes for i, c in enumerate(n) if c == "."}
        known = sorted({*shapes, *layers, *(g.name for g in groups)})
        raise UnknownName(
            f"no layer, parameter or group of the model is called {name!r}{closest(name, known)}; "
            "'secateur analyze' lists the groups"
        )
    return None, axes


def _called(lock: Lock) -> set[str]:
    """What a lock's causes are called: their kinds, and their operators in the ways that these are written."""
    names = set()
    for cause in lock.causes:
        registered = cause.operator.replace(".", "::", 1).partition(".")[0]
        names |= {cause.kind, cause.operator, registered, registered.partition("::")[2]}
    return names - {""}


def _within(parameter: str, name: str) -> bool:
    return parameter == name or parameter.startswith(name + ".")


def _touching(groups: Groups, axes: Axes) -> list[Group]:
    wanted = set(axes)
    return [g for g in groups if any((m.param, m.axis) in wanted for m in g.members)]


def _show_group(groups: Groups, group: Group, asked: Axes) -> None:
    one, everything = _held(groups, group, 1), _held(groups, group, group.units)
    from secateur.coupling import joins
    from secateur.report import folded, pattern

    line(
        f"group {group.name}: {several(group.units, 'unit')}; a unit costs {count(one[0])} parameters and "
        f"{count(one[1])} multiply-adds, all of them {count(everything[0])} and {count(everything[1])}",
        style="bold",
    )
    alike: dict[tuple[object, ...], list[str]] = {}
    for member in group.members:
        size = groups.graph.tensor(member.param).shape[member.axis]
        mark = "asked" if (member.param, member.axis) in asked else ""
        does = "reads the units" if member.consumes else ""
        key = (pattern(member.param), member.axis, size, member.multiplicity, does, mark)
        alike.setdefault(key, []).append(member.param)
    rows = [(name, *key[1:]) for key, names in alike.items() for name in folded(names)]
    table(
        "removing a unit takes these positions with it",
        ("parameter", "axis", "size", "positions for each unit", "", ""),
        rows,
        right=("axis", "size", "positions for each unit"),
    )
    for join in joins(groups.coupling, group.atoms):
        where = first_few(folded(layer for layer in join.layers if layer), 3)
        calls = several(len(join.layers), "call")
        line(
            f"tied by {join.operator} at {shortened(join.source)}{f' in {where}' if where else ''} ({calls})"
        )


def _held(groups: Groups, group: Group, units: int) -> tuple[int, int]:
    """Parameters and multiply-adds of a sample that go with the first so many units of a group."""
    from secateur.cost import Macs, Params

    before, after = (groups.coupling.alive(group.atoms[:n]) for n in (0, units))
    bound = [cost(groups.graph).bind(groups) for cost in (Params, Macs)]
    params, macs = (round(cost.of(before) - cost.of(after)) for cost in bound)
    return params, macs


def _show_locks(groups: Groups, axes: Axes, touching: list[Group]) -> None:
    from secateur.pipeline import locked
    from secateur.report import by_cause

    wanted = set(axes)
    everything = locked(groups)
    locks = [lock for lock in everything if (lock["param"], lock["axis"]) in wanted]
    if locks:
        line("locked", style="bold")
        show_causes(by_cause(locks), groups.graph.parameters)
        line(_kept(groups, everything, {lock["component"] for lock in locks}))
    reached = {(m.param, m.axis) for g in touching for m in g.members}
    reached |= {(lock["param"], lock["axis"]) for lock in locks}
    rest = [f"{param}:{axis}" for param, axis in axes if (param, axis) not in reached]
    if rest:
        line(f"of fixed size (axes of kernels, and of length 1): {', '.join(rest)}")


def _kept(groups: Groups, everything: list[dict[str, Any]], components: set[int]) -> str:
    """What all axes that are locked together with these hold."""
    from secateur.cost import Macs
    from secateur.report import held

    macs = Macs(groups.graph).bind(groups).by_layer(groups.coupling.alive(np.empty(0, dtype=np.int64)))
    work: dict[str, float] = {}
    axes = [lock for lock in everything if lock["component"] in components]
    for lock in axes:
        layer = lock["param"].rpartition(".")[0] or lock["param"]
        part = lock["positions"] / lock["size"]
        work[layer] = max(work.get(layer, 0.0), part * macs.get(layer, 0.0))
    params = held(axes)
    return (
        f"what is locked together with it spans {several(len(axes), 'axis', 'axes')} and keeps {count(params)} "
        f"parameters ({share(params / max(groups.graph.parameters, 1))}) and {count(sum(work.values()))} multiply-adds"
    )
