"""A twin: a model like a large one with most of its repeated blocks left out, small enough to be run.

A plan for a model that does not fit into memory is carried out on the twin first, by the way that every other cut goes:
with its weights, verified at every node. What the twin's tensors become is what the large model's tensors of these
names must become, to the last bit.

The twin is made of the large model's program, with the first and the last of each list of equal blocks; or the caller
gives one: a module of the same class with two layers, say, which is also compared with its program. It may be shorter
than the large model along axes that the plan leaves alone, such as the vocabulary, and then gets the leading part.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from secateur.coupling import Groups, Operator, Rule, find_groups, remove_blocks
from secateur.errors import InputError, PlanError, SecateurError
from secateur.graph import Dynamic, Graph, fetch, fingerprint_of, split_inputs, trace, two_samples
from secateur.planning import Plan
from secateur.surgery.checkpoint import raw
from secateur.surgery.cut import Cut, cut_groups
from secateur.surgery.emit import rewrite
from secateur.surgery.sizes import Sizes
from secateur.task import Inputs

Read = Callable[[str, "tuple[int, ...] | None"], "Tensor | None"]
"""A tensor of the large model by its name in the program, or its leading part; None where there are no values."""


@dataclass(frozen=True)
class Twin:
    """A small model with weights of a large one.

    Args:
        groups: of the twin, with its weights.
        plan: the large model's plan for what the twin has.
        words: what it is.
        left_out: blocks of the large model that it lacks, by name; unknown for one that the caller made.
        loaded: its tensors that have the large model's values.
        drawn: its tensors whose values are nowhere to be had and were drawn at random.
    """

    groups: Groups
    plan: Plan
    words: str
    left_out: tuple[str, ...]
    loaded: tuple[str, ...]
    drawn: tuple[str, ...] = ()


@dataclass(frozen=True)
class Expected:
    """What a tensor must become: its shape, and a digest of its bytes."""

    shape: tuple[int, ...]
    digest: str


def expected_of(twin: Twin) -> tuple[Cut, dict[str, Expected]]:
    """Cuts the twin, verified, and tells what each of its loaded tensors became, by name in its program.

    Halves are verified in single precision: their own would hide a small mistake.

    Raises:
        NotVerified: the cut differs from the masked twin.
        PlanError: the plan does not fit the twin.
    """
    halves = any(t.dtype in (torch.float16, torch.bfloat16) for t in twin.groups.graph.state.values())
    try:
        small = cut_groups(twin.groups, twin.plan, dtype=torch.float32 if halves else None)
    except PlanError as error:
        raise PlanError(f"the plan does not fit its twin ({twin.words}): {error}") from error
    found = {}
    for name in twin.loaded:
        tensor = fetch(small.module, name)
        found[name] = Expected(tuple(tensor.shape), digest(tensor))
    return small, found


def digest(tensor: Tensor) -> str:
    """SHA-256 of a tensor's bytes."""
    return hashlib.sha256(raw(tensor)).hexdigest()


def shortened(
    groups: Groups, plan: Plan, inputs: Inputs, read: Read, own: Mapping[str, Tensor], rules: Any
) -> Twin:
    """The twin that the large model's program gives.

    Args:
        groups: of the large model, of shapes alone.
        plan: for it.
        inputs: example inputs with values.
        read: the large model's tensors.
        own: tensors that the model has itself: buffers that no checkpoint stores.
        rules: that the groups were found with.

    Raises:
        InputError: the example inputs have no values, or a tensor of whole numbers has none.
    """
    left_out = _to_leave_out(groups, plan)
    try:
        shorter = remove_blocks(groups, left_out)
    except SecateurError as error:
        raise InputError(f"no twin can be made of the model ({error}); give one as twin=") from error
    nodes, state = _program(shorter)
    loaded, drawn = [], []
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            continue
        known = read(name, None)
        if known is not None:
            loaded.append(name)
        elif name in own and not own[name].is_meta:
            known = own[name].detach().clone()
        elif tensor.is_meta:
            known = _drawn(name, tensor)
            drawn.append(name)
        if known is not None:
            state[name] = nn.Parameter(known, tensor.requires_grad) if _learnt(tensor) else known
    graph = next(iter(nodes.values())).graph
    graph.set_codegen(copy.deepcopy(groups.graph.module.graph._codegen))
    module = fx.GraphModule(state, graph, class_name="Twin")
    module.train(False)
    args, kwargs = split_inputs(inputs)
    if any(t.is_meta for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, Tensor)):
        raise InputError(
            "the twin is run on the example inputs: give some with values, not on the meta device"
        )
    if groups.graph.batch == 2:
        args, kwargs, _ = two_samples(args, kwargs)
    short = Graph(module, args, kwargs, groups.graph.batch, groups.graph.dynamic, fingerprint_of(module))
    words = f"the program without {len(left_out)} of its repeated blocks"
    free = {index: list(axes) for index, axes in plan.outputs.items()}
    names = {n.name for n in graph.nodes}
    folded = tuple(f for f in plan.folded if f.node in names)
    small = _restricted(plan, short, {name: name for name in state}, folded)
    return Twin(find_groups(short, rules, free), small, words, tuple(left_out), tuple(loaded), tuple(drawn))


def given(
    twin: nn.Module,
    plan: Plan,
    inputs: Inputs,
    read: Read,
    canonical: Callable[[str], str],
    rules: Mapping[str, Rule | Operator] | None,
    dynamic: Dynamic | None,
) -> Twin:
    """A twin of the caller's own class, as a copy with the large model's weights.

    Args:
        twin: it is not changed.
        plan: for the large model.
        inputs: example inputs with values.
        read: the large model's tensors.
        canonical: the name in the large model's program of what its class calls so.
        rules: as for :func:`secateur.trace`.
        dynamic: likewise.

    Raises:
        InputError: the twin has a tensor that the large model has not, or larger ones.
    """
    if plan.folded:
        raise InputError(
            "the plan's folded factors name calls of the large model's program, which another twin has not; "
            "leave twin= out, so that the twin is made of that program"
        )
    module = copy.deepcopy(twin)
    loaded, drawn = _load(module, plan, read, canonical)
    graph = trace(module, inputs, dynamic=dynamic)
    names = {name: canonical(name) for name in graph.state_names()}
    free = {index: list(axes) for index, axes in plan.outputs.items()}
    words = f"{type(twin).__name__}, given by the caller, {graph.parameters:,} parameters"
    short = _restricted(plan, graph, names, ())
    held = tuple(
        n for n in names if n in loaded or any(a in loaded for a, g in graph.aliases.items() if g == n)
    )
    return Twin(find_groups(graph, rules, free), short, words, (), held, drawn)


def _load(
    module: nn.Module, plan: Plan, read: Read, canonical: Callable[[str], str]
) -> tuple[set[str], tuple[str, ...]]:
    """Puts weights into a module; the names of what was loaded, and of what was drawn."""
    loaded: set[str] = set()
    drawn: list[str] = []
    made: dict[int, Tensor] = {}  # tied tensors stay tied
    for prefix, part in module.named_modules(remove_duplicate=False):
        for held in (part._parameters, part._buffers):
            for leaf, tensor in held.items():
                if tensor is None:
                    continue
                name = f"{prefix}.{leaf}" if prefix else leaf
                if id(tensor) in made:
                    held[leaf] = made[id(tensor)]
                    continue
                shape = tuple(tensor.shape)
                known = read(canonical(name), shape)
                if known is not None:
                    _check_shorter(plan, canonical(name), name, shape, known)
                    loaded.add(name)
                elif tensor.is_meta:
                    known = _drawn(name, tensor)
                    drawn.append(name)
                elif isinstance(tensor, nn.Parameter):
                    raise InputError(f"the twin has a parameter '{name}' that the checkpoint has not")
                if known is not None:
                    new = nn.Parameter(known, tensor.requires_grad) if _learnt(tensor) else known
                    made[id(new)] = made[id(tensor)] = new
                    held[leaf] = new
    return loaded, tuple(drawn)


def _check_shorter(plan: Plan, name: str, own: str, shape: tuple[int, ...], found: Tensor) -> None:
    """The twin may be shorter than the large model only where the plan leaves an axis alone."""
    if tuple(found.shape) != shape:
        raise InputError(
            f"the twin's '{own}' has shape {list(shape)}, which is no part of the large model's; "
            "give a twin of the same widths"
        )


def _to_leave_out(groups: Groups, plan: Plan) -> list[str]:
    """All blocks but the first and the last of each list; those inside of another one go or stay with it."""
    blocks = [b for b in groups.blocks if b.kind == "block" and not b.locked]
    removed = set(plan.removed)
    lists: dict[str, list[str]] = {}
    for block in blocks:
        inner = any(block.name.startswith(f"{other.name}.") for other in blocks)
        if not inner and block.name not in removed:
            lists.setdefault(block.name.rstrip("0123456789"), []).append(block.name)
    return [*removed, *(name for names in lists.values() for name in names[1:-1])]


def _program(groups: Groups) -> tuple[dict[fx.Node, fx.Node], dict[str, Any]]:
    """The program without the removed blocks at its full widths, for the processor; and its state."""
    coupling, graph = groups.coupling, groups.graph
    state: dict[str, Any] = {}
    whole = Sizes(coupling, coupling.alive(np.empty(0, dtype=np.int64)))
    nodes = rewrite(groups, whole, state)
    for old, new in nodes.items():
        if old in groups.removal.instead:
            continue
        new.meta = {**old.meta, "val": _here(old.meta.get("val"))}
        if old.op == "get_attr":
            state[str(old.target)] = fetch(graph.module, str(old.target))
        elif old.op == "call_function":
            new.args, new.kwargs = fx.node.map_aggregate((new.args, new.kwargs), _place)
    return nodes, state


def _here(value: Any) -> Any:
    return pytree.tree_map_only(Tensor, lambda t: t.to("cpu"), value)


def _place(argument: Any) -> Any:
    return torch.device("cpu") if isinstance(argument, torch.device) else argument


def _restricted(plan: Plan, graph: Graph, names: Mapping[str, str], folded: Any) -> Plan:
    """The plan for what a twin has: ``names`` are the large model's, by the twin's."""
    return Plan(
        graph.fingerprint,
        {own: plan.kept[name] for own, name in names.items() if name in plan.kept},
        (),
        {own: plan.permuted[name] for own, name in names.items() if name in plan.permuted},
        folded,
        outputs=plan.outputs,
    )


def _learnt(tensor: Tensor) -> bool:
    return isinstance(tensor, nn.Parameter)


def _drawn(name: str, tensor: Tensor) -> Tensor:
    """Values for a tensor that has none: that the cut computes what the masked twin does holds for any."""
    if not tensor.is_floating_point():
        raise InputError(
            f"'{name}' is computed when the model is built, and on the meta device it has no values: give a twin with "
            "values (twin=), or build the model's buffers outside of it"
        )
    generator = torch.Generator().manual_seed(0)
    return torch.randn(tuple(tensor.shape), generator=generator).to(tensor.dtype)
