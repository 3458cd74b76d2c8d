"""Widths that a model's configuration can express, so that the class can be built again without Secateur.

Which number of a configuration decides which size is learnt by building: the class is made on the meta device with one
number doubled at a time, and what doubles with it is written down as an equation. No model's rules are known here.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import Any

import torch
from torch import nn

from secateur.coupling import Groups
from secateur.errors import FormError
from secateur.graph import Attribute, Compound, Probe
from secateur.surgery.owner.equations import Equation
from secateur.surgery.owner.rebuild import assign
from secateur.surgery.sizes import Sizes


@dataclass(frozen=True)
class Construction:
    """How the numbers of a configuration decide sizes.

    Args:
        axes: for ``(parameter, axis)``, the expression that gives its length.
        attributes: for an integer attribute of a module, the expression that gives its value.
        stored: names of the tensors that are saved with the model; what is not is computed from the configuration.
        model: the model as it was.
    """

    axes: Mapping[tuple[str, int], Any]
    attributes: Mapping[Attribute, Any]
    stored: frozenset[str]
    model: nn.Module

    def floats(self, numbers: Mapping[Attribute, int]) -> dict[Attribute, float]:
        """What other numbers the class computes from a configuration with these: a scale, say."""
        config = copy.deepcopy(self.model.config)
        for attribute, value in numbers.items():
            if attribute.module == "" and attribute.keys[0] == "config":
                assign(config, attribute.keys[1:], value)
        before, after = made(type(self.model), self.model.config), made(type(self.model), config)
        if before is None or after is None:
            return {}
        was = _values(before, float)
        return {a: v for a, v in _values(after, float).items() if a in was and was[a] != v}

    def equations(self, groups: Groups, found: list[Equation], sizes: Sizes) -> list[Equation]:
        """What the configuration adds to the equations ``found`` for these sizes."""
        anchor = next(n for n in groups.graph.nodes if n.op == "call_function")
        state = groups.coupling.state_axes
        more = [
            Equation(expression, sizes.of(state[name][axis]), anchor)
            for (name, axis), expression in self.axes.items()
            if name in state
        ]
        more += [
            Equation(len(axis), sizes.of(axis), anchor, literal=True)
            for name, axes in state.items()
            for axis in axes
            if name not in self.stored
        ]
        known = {e.left: e.right for e in reversed(found) if isinstance(e.left, Attribute)}
        more += [
            Equation(expression, known[attribute], anchor)
            for attribute, expression in self.attributes.items()
            if attribute in known
        ]
        return more


def construction(model: nn.Module, probe: Probe) -> Construction:
    """Learns how ``type(model)(model.config)`` depends on the configuration.

    Raises:
        FormError: the model has no configuration that it can be built from.
    """
    numbers = [a for a in probe.attributes if a.module == "" and a.keys[0] == "config"]
    base = _built(model, None, 0)
    if not numbers or base is None:
        raise FormError(
            f"{type(model).__name__} cannot be built from a configuration: config=True needs a model with a .config "
            "that its class takes, such as those of transformers"
        )
    sizes, values = _sizes(base), _values(base)
    axes, attributes = _Learnt(probe, sizes), _Learnt(probe, values)
    for number in numbers:
        if probe.attributes[number] < 2:
            continue
        other = _built(model, number, 2 * probe.attributes[number])
        if other is not None:
            axes.see(number, _sizes(other))
            attributes.see(number, _values(other))
    return Construction(axes.expressions(), attributes.expressions(), frozenset(model.state_dict()), model)


class _Learnt:
    """For each size, which numbers it grew or shrank with when they were doubled."""

    def __init__(self, probe: Probe, base: Mapping[Any, int]) -> None:
        self.probe, self.base = probe, base
        self.above: dict[Any, list[Attribute]] = {}
        self.below: dict[Any, list[Attribute]] = {}
        self.otherwise: set[Any] = set()

    def see(self, number: Attribute, doubled: Mapping[Any, int]) -> None:
        """Takes note of the sizes with one number doubled."""
        for place, size in doubled.items():
            was = self.base.get(place, size)
            if size == 2 * was:
                self.above.setdefault(place, []).append(number)
            elif 2 * size == was:
                self.below.setdefault(place, []).append(number)
            elif size != was:
                self.otherwise.add(place)

    def expressions(self) -> dict[Any, Any]:
        """Each size as a constant times numbers over numbers; those that follow another law are left out."""
        return {p: self._expression(p, n) for p, n in self.base.items() if p not in self.otherwise}

    def _expression(self, place: Any, size: int) -> Any:
        above, below = self.above.get(place, []), self.below.get(place, [])
        if not above and not below:
            return size
        constant = Fraction(size) * prod(self.probe.attributes[n] for n in below)
        constant /= prod(self.probe.attributes[n] for n in above)
        result: Any = constant
        for number in above:
            result = number if result == 1 else Compound("mul", (result, number))
        for number in below:
            result = Compound("truediv", (result, number))
        return result


def from_config(module: nn.Module) -> nn.Module | None:
    """A cut class made again from its configuration, with its weights; None where that cannot be done."""
    like = next((p for p in module.parameters() if p.is_floating_point()), None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            again = type(module)(copy.deepcopy(module.config))
        if like is not None:
            again = again.to(like.device, like.dtype)
        again.load_state_dict(module.state_dict())
    except Exception:  # sizes that the configuration does not give
        return None
    return again.eval()


def _built(model: nn.Module, number: Attribute | None, value: int) -> nn.Module | None:
    """The class made from its configuration, with one number changed; None where that is refused."""
    config = copy.deepcopy(getattr(model, "config", None))
    if number is not None:
        assign(config, number.keys[1:], value)
    return made(type(model), config)


def made(kind: Callable[[Any], nn.Module], config: Any) -> nn.Module | None:
    """A class built from a configuration, in shapes alone; None where it does not take that."""
    try:
        with warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")
            return kind(config)
    except Exception:  # whatever a class says about widths that it does not take
        return None


def _sizes(model: nn.Module) -> dict[tuple[str, int], int]:
    return {(n, i): s for n, t in _tensors(model) for i, s in enumerate(t.shape)}


def _tensors(model: nn.Module) -> Iterator[tuple[str, Any]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _values(model: nn.Module, kind: type = int) -> dict[Attribute, Any]:
    return {
        Attribute(path, (key,)): value
        for path, module in model.named_modules()
        for key, value in module.__dict__.items()
        if type(value) is kind
    }
