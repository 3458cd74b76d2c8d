"""Saves a pruned model as data and loads it again, without a pickle.

``model.json`` is the program, ``model.safetensors`` its weights, ``reference.safetensors`` a few inputs with
their outputs; loading runs the program on them and refuses it when the outputs differ.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from secateur.coupling import Groups, find_groups, remove_blocks
from secateur.errors import CorruptFile, FormError, InputError, PlanError, RunFolderError
from secateur.files import whole_file
from secateur.graph import Graph, Probe, computes_weights, decode, encode, fetch, probe, trace
from secateur.planning import Plan, without_removed
from secateur.surgery.compare import relative_error
from secateur.surgery.owner import plan_for_shapes, whole_groups, written_back
from secateur.task import Inputs, to_device

PROGRAM, WEIGHTS, REFERENCE = "model.json", "model.safetensors", "reference.safetensors"
PLAN = "plan.json"
TOLERANCE = 1e-3
"""Largest relative error between stored and computed reference outputs; half precision gets 5e-2."""


def save(model: nn.Module, folder: str | os.PathLike[str], example_inputs: Inputs | None = None) -> Path:
    """Writes a model into a folder as ``model.json``, ``model.safetensors`` and ``reference.safetensors``.

    Of a model that was cut here, ``plan.json`` says how; it helps to write the weights into the user's class. One that
    lies there from a model before goes.

    Args:
        model: a pruned model in graph form, or any module that traces.
        folder: is made if it does not exist.
        example_inputs: needed for modules that Secateur did not cut.

    Raises:
        InputError: example inputs are needed and were not given.
        RunFolderError: the folder cannot be written.
    """
    from safetensors.torch import save_file

    program, args, kwargs = _program(model, example_inputs)
    data = encode(program)
    weights = {
        name: fetch(program, name).detach().cpu().contiguous()
        for name, entry in data["tensors"].items()
        if entry["same_as"] == name
    }
    reference = _reference(program, args, kwargs)
    home = Path(folder)
    with whole_file(home / WEIGHTS) as path:
        save_file(_unshared(weights), str(path))
    with whole_file(home / REFERENCE) as path:
        save_file(_unshared(reference), str(path))
    plan = program.meta.get("secateur", {}).get("plan")
    if isinstance(plan, Plan):
        plan.save(home / PLAN)
    else:
        _remove(home / PLAN)
    with whole_file(home / PROGRAM) as path:  # last: with it, the model is there
        path.write_text(json.dumps(data))
    return home


def load(folder: str | os.PathLike[str], into: nn.Module | None = None) -> nn.Module:
    """Loads what :func:`save` wrote, or the pruned model of a run, and checks it against its reference.

    Args:
        folder: of the model or the run.
        into: a module of the user's own class, at the widths it had before pruning: the result is that class, cut
            and with the stored weights, instead of the graph form. It is not changed itself.

    Raises:
        CorruptFile: a file is missing, truncated, altered, or the outputs differ from the reference.
        FormError: the class cannot compute the stored model; says what stands in the way.
    """
    home = Path(folder)
    weights = _tensors(home / WEIGHTS)
    try:
        data = json.loads((home / PROGRAM).read_text())
    except OSError as error:
        raise CorruptFile(
            f"cannot read {home / PROGRAM}: {error.strerror}; is this a finished run?"
        ) from error
    except ValueError as error:
        raise CorruptFile(f"{home / PROGRAM} is truncated or was altered: {error}") from error
    module = decode(data, weights)
    _check_reference(module, _tensors(home / REFERENCE), home)
    if (home / PLAN).exists():
        try:
            plan = Plan.load(home / PLAN)
        except PlanError:
            if into is not None:
                raise
        else:
            if _gives(plan, module):
                module.meta["secateur"]["plan"] = plan  # saved again, the model keeps it
    return module if into is None else _load_into(into, module)


def _program(model: nn.Module, example_inputs: Inputs | None) -> tuple[fx.GraphModule, Any, Any]:
    own = model.meta.get("secateur") if isinstance(model, fx.GraphModule) else None
    if own is not None and example_inputs is None:
        assert isinstance(model, fx.GraphModule)
        return model, own["args"], own["kwargs"]
    if example_inputs is None:
        raise InputError("save(model, folder) of a model that was not cut here needs example_inputs")
    graph = trace(model, example_inputs, fold=False)  # with the weights that a class computes others from
    return graph.module, graph.args, graph.kwargs


def _flat(args: Any, kwargs: Mapping[str, Any]) -> list[Any]:
    return pytree.tree_flatten((tuple(args), dict(kwargs)))[0]


def _reference(program: fx.GraphModule, args: Any, kwargs: Mapping[str, Any]) -> dict[str, Tensor]:
    device = next((t.device for t in program.parameters()), torch.device("cpu"))
    args, kwargs = to_device(tuple(args), device), to_device(dict(kwargs), device)
    outputs = _outputs(program, args, kwargs)
    found = {f"input.{i}": t for i, t in enumerate(_flat(args, kwargs)) if isinstance(t, Tensor)}
    found.update({f"output.{i}": t for i, t in enumerate(outputs)})
    return {k: v.detach().cpu().contiguous() for k, v in found.items()}


def _outputs(program: nn.Module, args: Any, kwargs: Any) -> list[Tensor]:
    training = program.training
    program.eval()
    try:
        with torch.no_grad():
            return [t for t in pytree.tree_leaves(program(*args, **kwargs)) if isinstance(t, Tensor)]
    finally:
        program.train(training)


def _check_reference(module: fx.GraphModule, reference: Mapping[str, Tensor], home: Path) -> None:
    inputs = [reference[k] for k in sorted(reference, key=_number) if k.startswith("input.")]
    expected = [reference[k] for k in sorted(reference, key=_number) if k.startswith("output.")]
    spec = module.graph._codegen.pytree_info.in_spec  # type: ignore[attr-defined]
    if not expected or len(inputs) != spec.num_leaves:
        raise CorruptFile(f"{home / REFERENCE} does not fit the program; it is truncated or of another model")
    args, kwargs = pytree.tree_unflatten(inputs, spec)
    try:
        found = _outputs(module, args, kwargs)
    except Exception as error:
        raise CorruptFile(f"the program in {home} does not run: {str(error).splitlines()[0]}") from error
    pairs = zip(found, expected, strict=False)
    same = len(found) == len(expected)
    worst = max((relative_error(f, e) for f, e in pairs), default=float("inf")) if same else float("inf")
    half = any(e.dtype in (torch.float16, torch.bfloat16) for e in expected)
    if not worst <= (5e-2 if half else TOLERANCE):
        raise CorruptFile(
            f"the model in {home} does not compute its reference outputs (relative error {worst:.2g}): "
            "a file was altered or belongs to another model"
        )
    module.meta["secateur"] = {"fingerprint": "", "args": args, "kwargs": kwargs}


def _number(key: str) -> int:
    return int(key.rpartition(".")[2])


def _tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(str(path))
    except FileNotFoundError as error:
        raise CorruptFile(f"{path} does not exist; is this a finished run?") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise CorruptFile(f"{path} is truncated or was altered: {error}") from error


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """safetensors refuses tensors that share memory."""
    return {name: tensor.clone() for name, tensor in tensors.items()}


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise RunFolderError(
            f"cannot remove {path}, the plan of another model: {error.strerror}; choose another folder"
        ) from error


def _gives(plan: Plan, module: fx.GraphModule) -> bool:
    """Whether a plan is one that can have made a model: of what it keeps, all that is there has that size."""
    state = state_of(module)
    return all(
        axis < state[name].dim() and state[name].shape[axis] == len(indices)
        for name, axes in plan.kept.items()
        if name in state
        for axis, indices in axes.items()
    )


def _load_into(model: nn.Module, small: fx.GraphModule) -> nn.Module:
    own = small.meta["secateur"]
    plan = own.get("plan")
    inputs = own["kwargs"] or own["args"]
    graph = trace(model, inputs)
    views = [graph] if not computes_weights(graph.folded) else [graph, trace(model, inputs, fold=False)]
    reason = ""
    for view in views:
        seen = probe(model, view)
        known = plan if plan is not None and plan.fingerprint == view.fingerprint else None
        groups, how = _by_plan(view, seen, known) if known else _by_shapes(view, seen, small)
        if how is None:
            continue
        result = written_back(model, groups, seen, how, small)
        if result.module is not None:
            return result.module
        reason = result.reason
    if not reason:
        raise FormError(
            f"no widths of {type(model).__name__} give the stored shapes; give into= the model that was pruned, at its "
            "widths before pruning, or load the graph form without into="
        )
    raise FormError(
        f"{type(model).__name__} cannot hold the stored model: {reason}; "
        "load the graph form without into=, or prune with form='module', which chooses widths that fit the class",
        small,
    )


def _by_plan(graph: Graph, seen: Probe, plan: Plan) -> tuple[Groups, Plan]:
    free = {index: list(axes) for index, axes in plan.outputs.items()}
    groups = without_removed(find_groups(graph, free_outputs=free), plan)
    return whole_groups(groups, seen, free_outputs=free), plan


def _by_shapes(graph: Graph, seen: Probe, small: fx.GraphModule) -> tuple[Groups, Plan | None]:
    """Without a plan for this model (there is one of a later round, say) the stored shapes must do."""
    shapes = {n: tuple(t.shape) for n, t in state_of(small).items()}
    groups = whole_groups(_without_missing(find_groups(graph), shapes), seen)
    return groups, plan_for_shapes(groups, shapes)


def _without_missing(groups: Groups, stored: Collection[str]) -> Groups:
    """The groups without the blocks of which nothing is stored: they were removed whole."""
    if all(name in stored for name in groups.graph.state_names()):
        return groups
    gone = [b for b in groups.blocks if b.params and not b.locked and not any(n in stored for n in b.params)]
    # A layer stands for the branches that it is made of.
    inside = {name for b in gone for name in b.branches}
    return remove_blocks(groups, [b.name for b in gone if b.name not in inside])


def state_of(module: fx.GraphModule) -> dict[str, Tensor]:
    """The tensors that a program reads, by name."""
    names = dict.fromkeys(str(n.target) for n in module.graph.nodes if n.op == "get_attr")
    found = {name: fetch(module, name) for name in names}
    return {name: t for name, t in found.items() if isinstance(t, Tensor)}
