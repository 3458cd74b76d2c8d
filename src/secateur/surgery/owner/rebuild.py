"""The user's own class, cut: a copy with smaller tensors and the integers that its code needs."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from secateur.coupling import Groups
from secateur.graph import Attribute, Graph, Length, Probe, evaluate, fetch, is_record, leaves, rebuilt
from secateur.planning import Fold
from secateur.surgery.owner.equations import Equation, More, all_equations, lengths
from secateur.surgery.owner.hollow import Removed
from secateur.surgery.owner.scales import folds
from secateur.surgery.owner.standard import describe
from secateur.surgery.sizes import Sizes


@dataclass(frozen=True)
class Obstacle:
    """What keeps the user's own class from computing the new sizes.

    Args:
        attribute: the attribute in the way, or ``-`` where a number stands in the code itself.
        words: what it would have to be.
        node: where in the program.
    """

    attribute: str
    words: str
    node: fx.Node | None


@dataclass(frozen=True)
class Values:
    """What a cut asks of the user's class.

    Args:
        attributes: new values of numbers that modules hold.
        folds: factors for weights, where the class will compute a constant otherwise.
        obstacles: what could not be solved.
        removed: what goes with blocks that are removed whole.
    """

    attributes: Mapping[Attribute, int | float]
    folds: tuple[Fold, ...]
    obstacles: tuple[Obstacle, ...]
    removed: Removed = field(default_factory=Removed)


def solve_attributes(groups: Groups, probe: Probe, sizes: Sizes, more: More | None = None) -> Values:
    """Every attribute's value after a cut to these sizes; ``more``: how a configuration decides them."""
    found = all_equations(groups, probe, sizes, more)
    known_lengths = lengths(groups, probe, sizes)
    values: dict[Attribute, int] = {}
    floats: dict[Attribute, float] = {}
    obstacles: list[Obstacle] = []
    for equation in found:
        if isinstance(equation.left, Attribute):
            first = values.setdefault(equation.left, int(equation.right))
            if first != equation.right:
                words = f"it would have to be {first} in one place and {equation.right} in another"
                obstacles.append(Obstacle(str(equation.left), words, equation.node))

    def value_of(leaf: Attribute | Length) -> Any:
        if isinstance(leaf, Attribute):
            if leaf in floats or leaf not in probe.attributes:
                return floats.get(
                    leaf
                )  # a number that is not whole, and stays as it is unless it is known to change
            return Fraction(values.get(leaf, probe.attributes[leaf]))
        return Fraction(known_lengths[leaf]) if leaf in known_lengths else None

    for equation in found:
        if isinstance(equation.left, int):
            if equation.left != equation.right:
                words = f"the code says {equation.left}, the cut needs {equation.right}"
                obstacles.append(Obstacle("-", words, equation.node))
        elif not isinstance(equation.left, Attribute):
            problem = _compound(equation, values, probe, value_of)
            if problem:
                obstacles.append(problem)
    changed: dict[Attribute, int | float] = {a: v for a, v in values.items() if v != probe.attributes[a]}
    if more is not None:
        floats.update(more.floats(values))
        changed |= floats
    return Values(changed, tuple(folds(probe, groups.coupling.values, value_of)), tuple(obstacles))


def _compound(
    equation: Equation,
    values: dict[Attribute, int],
    probe: Probe,
    value_of: Any,
) -> Obstacle | None:
    """Checks an equation with arithmetic in it; solves it where one attribute in it is still open."""
    parts = list(leaves(equation.left))
    if any(value_of(leaf) is None for leaf in parts):
        return None
    is_choice = isinstance(equation.right, bool)
    still_open = [p for p in parts if isinstance(p, Attribute) and p not in values and not is_choice]
    for attempt in (None, *still_open):
        try:
            if attempt is not None:
                now = evaluate(equation.left, value_of)
                values[attempt] = int(Fraction(probe.attributes[attempt]) * equation.right / now)
            if evaluate(equation.left, value_of) == equation.right:
                return None
        except (ArithmeticError, ValueError, TypeError):
            pass
        if attempt is not None:
            del values[attempt]
    named = next((str(p) for p in parts if isinstance(p, Attribute)), "-")
    if is_choice:
        return Obstacle(named, "the code compares it and would go another way", None)
    return Obstacle(
        named, f"the code computes a size with it that the cut needs to be {equation.right}", equation.node
    )


def rebuild(
    model: nn.Module,
    graph: Graph,
    small: fx.GraphModule,
    values: Values,
    unread: Mapping[str, Tensor],
) -> nn.Module:
    """A copy of ``model`` with the tensors of ``small`` and the new values of its attributes.

    Args:
        model: the user's module; it is not changed.
        graph: its program.
        small: the cut program, whose tensors have the program's names.
        values: from :func:`solve_attributes`.
        unread: further tensors, of calls that are not in ``small``.
    """
    names = {name: name for name in graph.state_names() if name in unread or _has(small, name)}
    names |= {alias: name for alias, name in graph.aliases.items() if name in names}
    held = {n: unread[s] if s in unread else fetch(small, s) for n, s in names.items()}
    copies = {id(t): _own(t) for t in held.values()}
    tensors = {name: copies[id(t)] for name, t in held.items()}
    # Copying puts the small tensors where the program's own stood, wherever the module keeps them.
    memo = {id(graph.tensor(source)): tensors[name] for name, source in names.items()}
    result = copy.deepcopy(model, {**_detached(model), **memo})
    for name in graph.folded:
        plain_weight(result, name)
    for name, tensor in tensors.items():
        _put(result, name, tensor)
    values.removed.take_(result)
    for attribute, value in values.attributes.items():
        assign(result.get_submodule(attribute.module), attribute.keys, value)
    for module in result.modules():
        _tell(module)
    return result


def _has(module: nn.Module, name: str) -> bool:
    """Whether ``module`` has something at a dotted path."""
    try:
        fetch(module, name)
    except AttributeError:
        return False
    return True


def _detached(model: nn.Module) -> dict[int, Tensor]:
    """Copies of tensors that were computed, such as a normalised weight, and refuse to be copied as they are."""
    return {
        id(t): t.detach().clone()
        for module in model.modules()
        for t in module.__dict__.values()
        if isinstance(t, Tensor) and not t.is_leaf
    }


def plain_weight(model: nn.Module, name: str) -> None:
    """Takes off the parametrisation or the hook that computes a weight which was folded into one tensor."""
    path, _, leaf = name.rpartition(".")
    owner = model.get_submodule(path)
    if parametrize.is_parametrized(owner, leaf):
        # torch's own removal would take the property off the class, which the user's module shares with its copy.
        del owner.parametrizations[leaf]  # type: ignore[union-attr, operator]
        if not len(owner.parametrizations):  # type: ignore[arg-type]
            del owner.parametrizations
            owner.__class__ = type(owner).__mro__[1]
            owner.register_parameter(leaf, nn.Parameter(torch.empty(0)))
        return
    for hook in list(owner._forward_pre_hooks.values()):
        if getattr(hook, "name", None) == leaf and isinstance(hook, WeightNorm):
            remove_weight_norm(owner, leaf)
        elif getattr(hook, "name", None) == leaf and isinstance(hook, SpectralNorm):
            remove_spectral_norm(owner, leaf)


def _own(tensor: Tensor) -> Tensor:
    copied = tensor.detach().clone()
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(copied, requires_grad=tensor.requires_grad)
    return copied


def _put(model: nn.Module, name: str, tensor: Tensor) -> None:
    """Sets a parameter, a buffer or a bare tensor by its dotted name, where the module has one."""
    path, _, leaf = name.rpartition(".")
    try:
        owner = model.get_submodule(path)
    except AttributeError:
        return
    if leaf in owner._parameters or leaf in owner._buffers:
        setattr(owner, leaf, tensor)
    elif isinstance(getattr(owner, leaf, None), Tensor):
        object.__setattr__(owner, leaf, tensor)


def assign(holder: Any, keys: Sequence[str | int], value: float) -> None:
    """Sets the number that ``keys`` lead to; tuples on the way are made anew."""
    held = holder.__dict__
    held[keys[0]] = _replaced(held[keys[0]], keys[1:], value)


def _replaced(current: Any, keys: Sequence[str | int], value: float) -> Any:
    if not keys:
        return value
    if isinstance(current, tuple):
        return rebuilt(
            current, [_replaced(v, keys[1:], value) if i == keys[0] else v for i, v in enumerate(current)]
        )
    if isinstance(current, (list, dict)):
        current[keys[0]] = _replaced(current[keys[0]], keys[1:], value)  # type: ignore[index]
    elif is_record(current):
        assign(current, keys, value)
    return current


def _tell(module: nn.Module) -> None:
    """Brings the descriptive attributes of a standard module in line with its tensors."""
    try:
        found = describe(module)
    except (AttributeError, ValueError, ZeroDivisionError):
        return  # a subclass that holds its tensors otherwise
    for name, value in found.items():
        if isinstance(getattr(module, name, None), int) and getattr(module, name) != value:
            module.__dict__[name] = int(value)
