"""From a model and example inputs to a :class:`Graph`, through ``torch.export``.

Axis 0 of every tensor is the batch. It is exported symbolically (a batch of one is widened, since the
exporter would take it for a constant) and statically where the model's own code fixes it. The user's
model is left as it was: its training modes are put back, its tensors are only read.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
import traceback
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules import transformer
from torch.utils import _pytree as pytree

from secateur.errors import InputError, NotExportable, NotFinite
from secateur.graph.assemble import assemble
from secateur.graph.faithful import check_faithful
from secateur.graph.fold import fold_parameters
from secateur.graph.modes import follow_modes
from secateur.graph.normalise import drop_assertions, drop_dead, inline_wrappers, op_name
from secateur.graph.record import Graph, fetch, read_by
from secateur.graph.shapes import as_shapes, inputs_as_shapes, shapes_alone
from secateur.graph.unbacked import hint_sizes
from secateur.task import Inputs

Dynamic = Mapping[str | int, Sequence[int]]


def trace(
    model: nn.Module, example_inputs: Inputs, *, dynamic: Dynamic | None = None, fold: bool = True
) -> Graph:
    """Traces a model in evaluation mode.

    A model on the meta device is traced from its shapes: the record is ``shapes_alone``, nothing is run, and that the
    program computes what the model does is not checked. A plan made on it fits the model with its weights.

    Args:
        model: any module that ``torch.export`` takes; it is not changed.
        example_inputs: a tensor, a tuple of positional inputs or a dict of keyword inputs; axis 0 of every
            tensor is the batch.
        dynamic: further axes to keep symbolic, ``{input name or position: axes}``.
        fold: whether weights that the model's code computes from weights, by standardising them, say, are computed
            once, so that a cut of them is exact. Otherwise that is a norm like any other, taken over what is kept; only
            torch's own parametrisations are computed once then.

    Raises:
        InputError: the model does not run on these inputs.
        NotExportable: it runs, but cannot be exported.
        NotFinite: a parameter holds NaN or infinity.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"expected a torch.nn.Module; got {type(model).__name__}")
    _check_finite(model)
    args, kwargs = split_inputs(example_inputs)
    if shapes_alone(model):
        model, args, kwargs = as_shapes(model), inputs_as_shapes(args), inputs_as_shapes(kwargs)
    small_args, small_kwargs, batch = two_samples(args, kwargs)
    with evaluating(model):
        _name_keywords(model, small_kwargs)
        try:
            program = _export(
                model, small_args, small_kwargs, _dynamic_shapes(small_args, small_kwargs, dynamic)
            )
        except Exception:
            # The model's own code may fix the batch: export the inputs as they were given.
            small_args, small_kwargs = args, kwargs
            batch = _batch_size(args, kwargs)
            try:
                program = _export(model, args, kwargs, None)
            except Exception as error:
                _raise_export_error(model, args, kwargs, error)
    module = _module(program)
    inline_wrappers(module)
    drop_assertions(module)
    folded = fold_parameters(module, named_only=not fold)
    drop_dead(module)
    follow_modes(module, model, dict(program.state_dict))
    state = read_by(module)
    module = assemble(state, module.graph)
    with evaluating(model):
        check_faithful(model, module, small_args, small_kwargs)
    hint_sizes(module, small_args, small_kwargs)
    return Graph(
        module=module,
        args=small_args,
        kwargs=small_kwargs,
        batch=batch,
        dynamic=_is_dynamic(module, batch),
        fingerprint=fingerprint_of(module),
        folded=folded,
        aliases=_aliases(model, state),
    )


def split_inputs(example_inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Example inputs in any of the three forms, as ``(args, kwargs)``."""
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    if isinstance(example_inputs, (tuple, list)):
        return tuple(example_inputs), {}
    if isinstance(example_inputs, Tensor):
        return (example_inputs,), {}
    raise InputError(
        f"example inputs must be a tensor, a tuple or a dict of tensors; got {type(example_inputs).__name__}"
    )


def _check_finite(model: nn.Module) -> None:
    for name, tensor in model.state_dict(keep_vars=True).items():
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point() or tensor.is_meta:
            continue
        # One sum decides in the common case; a finite tensor can overflow it, so look again.
        if torch.isfinite(tensor.detach().sum()) or torch.isfinite(tensor.detach()).all():
            continue
        # A buffer may mean infinity: a mask before a softmax, a bound that binds nothing. Statistics never do.
        bound = not isinstance(tensor, nn.Parameter) and "running_" not in name
        if not bound or torch.isnan(tensor.detach()).any():
            raise NotFinite(f"'{name}' holds NaN or infinity; load sound weights before pruning")


def _tensors(tree: Any) -> list[Tensor]:
    return [t for t in pytree.tree_leaves(tree) if isinstance(t, Tensor)]


def _batch_size(args: Any, kwargs: Any) -> int:
    sizes = [t.shape[0] for t in _tensors((args, kwargs)) if t.dim()]
    return int(sizes[0]) if sizes else 1


def two_samples(args: Any, kwargs: Any) -> tuple[Any, Any, int]:
    """The inputs with a batch of two, where all tensors agree on their batch size."""
    sizes = {t.shape[0] for t in _tensors((args, kwargs)) if t.dim()}
    if len(sizes) != 1 or 0 in sizes:
        return args, kwargs, _batch_size(args, kwargs)

    def two(t: Any) -> Any:
        if not isinstance(t, Tensor) or not t.dim():
            return t
        return torch.cat([t, t]) if t.shape[0] == 1 else t[:2]

    return pytree.tree_map(two, args), pytree.tree_map(two, kwargs), 2


def _dynamic_shapes(args: Any, kwargs: Any, dynamic: Dynamic | None) -> Any:
    extra = dict(dynamic or {})

    def axes(key: str | int, value: Any) -> Any:
        def one(t: Any) -> Any:
            if not isinstance(t, Tensor) or not t.dim():
                return None
            return dict.fromkeys({0, *extra.get(key, ())}, torch.export.Dim.AUTO)

        return pytree.tree_map(one, value)

    if args and not kwargs:
        return tuple(axes(i, a) for i, a in enumerate(args))
    return {k: axes(k, v) for k, v in kwargs.items()} or None


def _name_keywords(model: nn.Module, kwargs: Any) -> None:
    """Gives ``forward(**kwargs)`` a parameter for each keyword: the exporter loses symbolic axes without one.

    On the instance, and until :func:`_evaluating` puts back what was there.
    """
    whole = model.forward
    signature = inspect.signature(whole)
    kept = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    unnamed = [k for k in kwargs if k not in signature.parameters]
    if not unnamed or len(kept) == len(signature.parameters):
        return

    def forward(*args: Any, **keywords: Any) -> Any:
        return whole(*args, **keywords)

    named = [inspect.Parameter(k, inspect.Parameter.KEYWORD_ONLY) for k in unnamed]
    forward.__signature__ = signature.replace(parameters=[*kept, *named])  # type: ignore[attr-defined]
    model.forward = forward


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; then every attribute is as it was.

    Caches that the export filled are included, and hooks that a first call registers: together with the flag that says
    they are there they would be registered twice.
    """
    fast_path = torch.backends.mha.get_fastpath_enabled()
    modules = list(model.modules())
    attributes = [(m.__dict__, dict(m.__dict__)) for m in modules]
    caches = [
        (v, v.copy() if v else ())
        for _, held in attributes
        for v in held.values()
        if type(v) in (dict, OrderedDict, list)
    ]
    torch.backends.mha.set_fastpath_enabled(False)  # one fused operator would hide the projections
    detect, transformer._detect_is_causal_mask = transformer._detect_is_causal_mask, _not_looked_at
    if any(m.training or type(m).train is not nn.Module.train for m in modules):
        model.eval()
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        transformer._detect_is_causal_mask = detect
        for held, before in attributes:
            held.clear()
            held.update(before)
        for cache, content in caches:
            if cache or content:  # a module has a dozen of them, most of them empty
                cache.clear()
                cache.extend(content) if isinstance(cache, list) else cache.update(content)


def _not_looked_at(mask: Tensor | None, is_causal: bool | None = None, size: int | None = None) -> bool:
    """In place of torch's look at a mask's values, which could only replace the mask by a flag of the same effect."""
    return is_causal is True


def _export(model: nn.Module, args: Any, kwargs: Any, shapes: Any) -> torch.export.ExportedProgram:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(model, args, kwargs, dynamic_shapes=shapes)


def _module(program: torch.export.ExportedProgram) -> fx.GraphModule:
    try:
        module = program.module(check_guards=False)
    except RuntimeError as error:  # torch.fx keeps a few names, such as 'code' and 'graph', for itself
        raise NotExportable(
            f"torch.export traced the model but cannot build it again: {_words(error)}. "
            "Rename the submodule or parameter that the message names, or wrap the model in another module"
        ) from error
    assert isinstance(module, fx.GraphModule)
    return module


def _raise_export_error(model: nn.Module, args: Any, kwargs: Any, error: Exception) -> None:
    try:
        with torch.no_grad():
            model(*args, **kwargs)
    except Exception as failure:
        given = ", ".join(str(list(t.shape)) for t in _tensors((args, kwargs)))
        raise InputError(
            f"the model does not run on inputs of shape {given}: {_words(failure)} ({user_line(failure)}); "
            "give inputs of the shape that it takes"
        ) from failure
    raise NotExportable(
        f"torch.export cannot trace the model at {user_line(error)}: {_words(error)}. "
        "Make that line free of Python branches on tensor values (torch.where, torch.cond), "
        "or prune the part of the model that exports"
    ) from error


def _words(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:300]


def user_line(error: BaseException) -> str:
    """The innermost line of the traceback that is not torch's own, as ``file:line 'code'``."""
    torch_home = str(Path(torch.__file__).parent) + os.sep
    ours = str(Path(__file__).parent) + os.sep
    frames = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if not f.filename.startswith((torch_home, ours, "<")) and f.line
    ]
    if not frames:
        return "an unknown line"
    return f"{frames[-1].filename}:{frames[-1].lineno} '{frames[-1].line}'"


def _is_dynamic(module: fx.GraphModule, batch: int) -> bool:
    """Whether the batch is a symbol in every input that has one.

    Where the model's code settled it, for one of several inputs perhaps, the exporter may leave a symbolic number.
    """
    sizes = [
        n.meta["val"].shape[0]
        for n in module.graph.nodes
        if n.op == "placeholder" and isinstance(n.meta.get("val"), Tensor) and n.meta["val"].dim()
    ]
    symbols = [isinstance(s, torch.SymInt) and bool(s.node.expr.free_symbols) for s in sizes]
    fixed = [int(s) for s, symbol in zip(sizes, symbols, strict=True) if not symbol]
    return any(symbols) and batch not in fixed


# The exporter leaves out what changes nothing; that depends on strides, and these on the device.
_STRIDES = frozenset(f"aten::{name}" for name in ("contiguous", "clone", "alias", "detach"))


def fingerprint_of(module: fx.GraphModule) -> str:
    """A hash of a program's structure, see :class:`Graph`."""
    digest = hashlib.sha256()
    for node in module.graph.nodes:
        if op_name(node) in _STRIDES:
            continue
        line = [node.op, op_name(node) if node.op == "call_function" else ""]
        if node.op == "get_attr":
            value = fetch(module, str(node.target))
            if isinstance(value, Tensor):
                line += [str(node.target), str(tuple(value.shape)), str(value.dtype)]
        digest.update("|".join(line).encode())
    return digest.hexdigest()[:32]


def _aliases(model: nn.Module, state: Mapping[str, Any]) -> dict[str, str]:
    used = {id(value): name for name, value in state.items()}
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return {name: used[id(t)] for name, t in named if id(t) in used and used[id(t)] != name}
