"""Gives a cut model back in the user's own class, checked against the graph form, or says what stands in the way."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx, nn

from secateur.coupling import Groups, source_of
from secateur.graph import Graph, Probe
from secateur.planning import Plan, dead_atoms
from secateur.surgery.compare import relative_error
from secateur.surgery.owner.calling import Samples, outputs_of, samples
from secateur.surgery.owner.config import from_config
from secateur.surgery.owner.diagnose import Deviation, deviations
from secateur.surgery.owner.equations import More
from secateur.surgery.owner.rebuild import Values, rebuild, solve_attributes
from secateur.surgery.owner.shorter import renamed, shortened
from secateur.surgery.owner.standins import StandIns
from secateur.surgery.sizes import Sizes
from secateur.task import to_device

TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 1e-1, torch.float16: 2e-2}


@dataclass(frozen=True)
class Owner:
    """The user's own class after a cut, or why it cannot be had.

    Args:
        module: the class, cut; None where it does not compute what the graph form does.
        error: largest relative difference of an output from the graph form's.
        reason: what stands in the way, in words; empty if nothing does.
        deviations: where the class takes other numbers than the cut program, as far as could be found out.
    """

    module: nn.Module | None
    error: float
    reason: str
    deviations: tuple[Deviation, ...] = ()


def values_for(
    groups: Groups, plan: Plan, probe: Probe, more: More | None = None, standins: StandIns | None = None
) -> Values:
    """What a plan asks of the user's class: new attributes, and factors that its weights must take.

    Args:
        groups: found on the model's program.
        plan: what is kept.
        probe: from :func:`secateur.graph.probe`.
        more: how a configuration decides sizes, where the result must fit one.
        standins: for the modules of blocks that are removed whole.
    """
    sizes = Sizes(groups.coupling, groups.coupling.alive(dead_atoms(groups, plan)))
    values = solve_attributes(groups, probe, sizes, more)
    return replace(values, removed=standins.at(sizes)) if standins else values


def own_class(
    model: nn.Module,
    groups: Groups,
    small: fx.GraphModule,
    values: Values,
    *,
    config: bool = False,
    unread: Mapping[str, Tensor] | None = None,
) -> Owner:
    """Writes a cut back into a copy of the user's class and runs it beside the graph form.

    Args:
        model: the user's module; it is not changed.
        groups: found on its program.
        small: the cut program.
        values: from :func:`values_for`.
        config: whether the class must come out the same when it is built from its configuration.
        unread: cut tensors that ``small`` does not hold, since only calls that nothing reads need them.
    """
    result = rebuild(model, groups.graph, small, values, unread or {})
    inputs = samples(model, groups.graph)
    error, problem = _difference(result, small, groups.graph, inputs)
    if not problem and config:
        names = renamed(result)
        shorter, problem = shortened(result) if values.removed.modules else (result, "")
        again = from_config(shorter) if shorter is not None else None
        if shorter is not None and again is not None:
            result, (_, problem) = shorter, _difference(again, small, groups.graph, inputs, names)
        problem = problem or ("it does not build" if again is None else "")
        problem = problem and f"built from its configuration, {problem}"
    if not problem:
        return Owner(result, error, "")
    differing = () if values.obstacles else tuple(deviations(result, small, groups.graph))
    return Owner(None, error, _reason(values, differing, problem), differing)


def _difference(
    module: nn.Module,
    small: fx.GraphModule,
    graph: Graph,
    inputs: Samples,
    names: Mapping[str, str] | None = None,
) -> tuple[float, str]:
    """Runs a class beside the graph form: largest relative difference of an output, and what is wrong if anything."""
    error = 0.0
    device = next((p.device for p in small.parameters()), torch.device("cpu"))
    for noisy, (args, kwargs) in itertools.product((False, True), inputs):
        args, kwargs = to_device(args, device), to_device(kwargs, device)
        state, named = _shared(_noise(small) if noisy else {}, module, graph, names)
        expected = outputs_of(small, args, kwargs, state)
        try:
            found = outputs_of(module, args, kwargs, named)
        except Exception as failure:
            words = (str(failure).strip().splitlines() or [type(failure).__name__])[0][:200]
            return float("inf"), f"it does not run: {words}"
        if len(found) != len(expected):
            return float("inf"), "it returns other outputs"
        if noisy and not all(bool(torch.isfinite(e).all()) for e in expected if e.is_floating_point()):
            continue
        error = max([error, *(relative_error(f, e) for f, e in zip(found, expected, strict=True))])
    lowest = min((e.dtype for e in expected if e.dtype in TOLERANCES), key=_bits, default=torch.float32)
    return error, "" if error <= TOLERANCES[
        lowest
    ] else f"its outputs differ from the graph form's by {error:.2g}"


def _noise(small: fx.GraphModule) -> dict[str, Tensor]:
    """Other weights for the same check: a fresh head of zeros, or small queries and keys, would hide a mistake."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name, parameter in small.named_parameters():
        if parameter.is_floating_point():
            own = parameter.detach()
            spread = float(own.float().std()) if own.numel() > 1 else 0.0
            fan = own.numel() // max(own.shape[0], 1) if own.dim() > 1 else 100
            noise = torch.randn(own.shape, generator=generator) * max(0.5 * spread, max(fan, 1) ** -0.5)
            found[name] = own + noise.to(own.device, own.dtype)
    return found


def _shared(
    state: Mapping[str, Tensor], module: nn.Module, graph: Graph, names: Mapping[str, str] | None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What of a state both forms hold, by the program's names and by the class's (``names``: where these differ).

    The program may hold a tensor that the class computes from others, such as a softmax of weights.
    """
    own = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    called = names or {name: name for name in own}
    named = {n: t for n, t in state.items() if called.get(n) in own}
    named |= {a: state[n] for a, n in graph.aliases.items() if n in state and called.get(a) in own}
    held = {graph.aliases.get(name, name) for name in named}
    return {n: t for n, t in state.items() if n in held}, {called[n]: t for n, t in named.items()}


def _bits(dtype: torch.dtype) -> int:
    return torch.finfo(dtype).bits


def _reason(values: Values, differing: tuple[Deviation, ...], words: str) -> str:
    if not values.obstacles:
        return values.removed.doubt or (f"{differing[0]} ({words})" if differing else words)
    first = values.obstacles[0]
    name = "a number in the code" if first.attribute == "-" else f"the attribute '{first.attribute}'"
    return f"{name} stands in the way at {source_of(first.node)}: {first.words}"
