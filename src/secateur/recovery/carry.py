"""An optimiser goes on over a cut: its moments are cut as the weights were.

Momentum and second moments hold a number for each weight, so the plan that says which weights stay says which of
these stay too. What holds one number for all (a step count) is copied, and so are rates and every other option.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from secateur.errors import PlanError, RequestError
from secateur.planning import Plan


def carry_optimizer(optimizer: Optimizer, model: nn.Module, small: nn.Module, plan: Plan) -> Optimizer:
    """An optimiser over the cut model's parameters that goes on where the one of the whole model stood.

    It is of the same class, with the same groups and options (a schedule's current rate is one of them: build the
    schedule anew over the result, and load its state). Parameters that the cut model does not have are left
    out, tied ones stand once, and those that were not trained before are not now. A parameter that the
    program computes from others (weight norm) begins without a state.

    Args:
        optimizer: over parameters of ``model``; it is not changed.
        model: the model that was cut: the user's own, or the graph form of an earlier cut.
        small: what came of it, in either form.
        plan: what the cut kept of ``model``.

    Raises:
        RequestError: the optimiser is not over ``model``, or keeps something that is neither one number nor
            of a parameter's shape.
        PlanError: ``small`` is not what the plan makes of ``model``.
    """
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    targets = dict(small.named_parameters(remove_duplicate=False))
    taken: set[int] = set()
    groups: list[dict[str, Any]] = []
    states: list[tuple[nn.Parameter, dict[str, Any]]] = []
    for group in optimizer.param_groups:
        kept = []
        for parameter in group["params"]:
            if id(parameter) not in names:
                raise RequestError(
                    f"the optimiser holds a parameter of shape {list(parameter.shape)} that {type(model).__name__} "
                    "does not have: give the model that the optimiser was built on"
                )
            own = names[id(parameter)]
            target = next((targets[n] for n in own if n in targets), None)
            if target is None or id(target) in taken:
                continue
            taken.add(id(target))
            part = _Slice(plan, own)
            _check(own[0], parameter, target, part)
            state = {
                key: _carried(
                    value, parameter, target, part, f"{type(optimizer).__name__}'s '{key}' of '{own[0]}'"
                )
                for key, value in optimizer.state.get(parameter, {}).items()
            }
            states.append((target, state))
            kept.append(target)
        groups.append({**{k: v for k, v in group.items() if k != "params"}, "params": kept})
    carried = _built(optimizer, [g for g in groups if g["params"]])
    for parameter, state in states:
        if state:
            carried.state[parameter] = state
    return carried


@dataclass(frozen=True)
class _Slice:
    """What a plan keeps of one parameter, under whichever of its names the plan speaks of it."""

    plan: Plan
    names: Sequence[str]

    def of(self, tensor: Tensor) -> Tensor:
        """The part that stays of a tensor of the parameter's shape."""
        for name in self.names:
            tensor = self.plan.take(name, tensor)
        return tensor

    def along(self, tensor: Tensor, shape: Sequence[int], what: str) -> Tensor:
        """The part that stays of a tensor with one number for all along some axes."""
        for name in self.names:
            if self.plan.permuted.get(name):
                raise RequestError(
                    f"{what} is not kept for each entry, and the plan keeps others in each block"
                )
            for axis, positions in self.plan.kept.get(name, {}).items():
                if tensor.shape[axis] == shape[axis]:
                    tensor = tensor.index_select(axis, torch.tensor(positions, device=tensor.device))
        return tensor


def _check(name: str, parameter: Tensor, target: Tensor, part: _Slice) -> None:
    try:
        shape = list(part.of(torch.empty(parameter.shape, device="meta")).shape)
    except (IndexError, RuntimeError) as error:
        raise PlanError(
            f"the plan keeps positions that '{name}' of shape {list(parameter.shape)} does not have"
        ) from error
    if shape != list(target.shape):
        raise PlanError(
            f"the plan makes '{name}' of shape {shape}, the cut model has {list(target.shape)}: "
            "give the model that the plan speaks of, and what was cut by that plan"
        )


def _carried(value: Any, parameter: Tensor, target: Tensor, part: _Slice, what: str) -> Any:
    """One entry of a parameter's state, cut like the parameter where it is of its shape."""
    if not isinstance(value, Tensor):
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise RequestError(
            f"{what} is a {type(value).__name__}, which cannot be cut: begin with a new optimiser"
        )
    if value.dim() == 0:
        return value.detach().clone()
    shape = parameter.shape
    # One number for each position of some axes, and one for all along the others (Adafactor's factors).
    fits = value.dim() == len(shape) and all(n in (1, m) for n, m in zip(value.shape, shape, strict=True))
    if not fits:
        raise RequestError(
            f"{what} has shape {list(value.shape)}, the parameter {list(shape)}: it cannot be cut with the parameter; "
            "begin with a new optimiser"
        )
    whole = value.shape == shape
    result = part.of(value.detach()) if whole else part.along(value.detach(), shape, what)
    return result.clone().to(target.device)


def _built(optimizer: Optimizer, groups: list[dict[str, Any]]) -> Optimizer:
    """An optimiser of the same class and options."""
    if not groups:
        raise RequestError("the cut model has none of the optimiser's parameters")
    kind = type(optimizer)
    known = inspect.signature(kind).parameters
    anything = any(p.kind is p.VAR_KEYWORD for p in known.values())
    options = {k: v for k, v in optimizer.defaults.items() if anything or k in known}
    try:
        return kind(groups, **options)
    except (TypeError, ValueError) as error:
        raise RequestError(
            f"{kind.__name__} cannot be built anew from its options {sorted(options)}: {error}; "
            "build it yourself over the cut model"
        ) from error
