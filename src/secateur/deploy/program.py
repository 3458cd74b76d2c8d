"""A model as an exported program with a free batch axis and plain containers, ready for a converter.

The model is copied, put into eval mode on the CPU, and stripped of stale node metadata, which ``torch.export`` refuses
when it meets a graph module again. The batch axis is free where the program allows it; where it does not (a reshape
with the size written out) the program keeps the batch of the example inputs. ``Dim.AUTO`` is used rather than
``Dim.DYNAMIC`` because it lets several inputs share one batch. Outputs become plain dicts and tuples, so that reading
the file does not need the library that defined their class.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import fx, nn
from torch.export import Dim, ExportedProgram

from secateur.deploy.inputs import at_least_two, map_tensors, named_inputs
from secateur.errors import NotExportable, SecateurError
from secateur.task import Inputs, to_device


def evaluation_copy(model: nn.Module) -> nn.Module:
    """A copy of ``model`` on the CPU in eval mode; the modules of ``torch.export``, whose mode is baked, stay as
    they are."""
    with quiet():
        twin = copy.deepcopy(model).cpu()
    try:
        return twin.eval()
    except NotImplementedError:
        return twin


def exported_program(model: nn.Module, example_inputs: Inputs) -> ExportedProgram:
    """``model`` as an ATen program, axis 0 of every input free where the model allows it.

    Raises:
        NotExportable: ``torch.export`` refuses the model even with a fixed batch.
    """
    twin = evaluation_copy(model)
    _return_plain_containers(twin)
    for module in twin.modules():
        if isinstance(module, fx.GraphModule):
            for node in module.graph.nodes:
                node.meta = {}
    example = to_device(example_inputs, "cpu")
    try:
        program = _export(twin, at_least_two(example), free_batch=True)
        if batch_is_free(program, len(named_inputs(example))):
            return program
    except SecateurError:
        raise
    except Exception:  # the fixed batch below is the answer, and raises if it fails too
        pass
    try:
        return _export(twin, example, free_batch=False)
    except Exception as error:
        line = (str(error).strip().splitlines() or ["no message"])[0]
        raise NotExportable(f"torch.export refuses the model: {type(error).__name__}: {line}") from error


def _return_plain_containers(module: nn.Module) -> None:
    """Turns outputs of a class of their own into dicts and tuples.

    A graph module is exported by an interpreter, which runs no hooks: there the class stands in the code generator.
    """
    if not isinstance(module, fx.GraphModule):
        module.register_forward_hook(lambda _, arguments, outputs: _plain_containers(outputs))
        return
    info = getattr(module.graph._codegen, "pytree_info", None)
    if info is None or info.out_spec is None:
        return
    try:
        stand_in = pytree.tree_unflatten(list(range(info.out_spec.num_leaves)), info.out_spec)
    except Exception:
        return  # a class that takes tensors only: it stays
    plain = pytree.tree_structure(_plain_containers(stand_in))
    if plain.num_leaves == info.out_spec.num_leaves:
        module.graph._codegen.pytree_info = info._replace(out_spec=plain)  # type: ignore[attr-defined]
        module.recompile()


def _plain_containers(value: Any) -> Any:
    return map_tensors(lambda tensor: tensor, value)


def batch_is_free(program: ExportedProgram, inputs: int) -> bool:
    """Whether axis 0 of each of the first ``inputs`` user inputs is symbolic."""
    names = program.graph_signature.user_inputs
    shapes = [
        n.meta["val"].shape
        for n in program.graph.nodes
        if n.op == "placeholder" and n.name in names and isinstance(n.meta.get("val"), torch.Tensor)
    ]
    return len(shapes) >= inputs and all(shape and not isinstance(shape[0], int) for shape in shapes)


def _export(model: nn.Module, inputs: Inputs, free_batch: bool) -> ExportedProgram:
    args, kwargs = as_arguments(inputs)
    shapes: Any = None
    if free_batch:
        axes = map_tensors(lambda t: {0: Dim.AUTO}, inputs)
        shapes = _plain(axes) if isinstance(inputs, (Mapping, tuple)) else (axes,)
    with quiet(), torch.no_grad():
        return torch.export.export(model, args, kwargs, dynamic_shapes=shapes, strict=False)


def as_arguments(inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """``inputs`` as positional and keyword arguments."""
    if isinstance(inputs, torch.Tensor):
        return (inputs,), {}
    if isinstance(inputs, tuple):
        return inputs, {}
    return (), dict(inputs)


def _plain(axes: Any) -> Any:
    """Replaces what is neither a container nor a specification by ``None``: constants have no dynamic shape."""
    if isinstance(axes, dict):
        return {k: (v if isinstance(k, int) else _plain(v)) for k, v in axes.items()}
    if isinstance(axes, tuple):
        return tuple(_plain(item) for item in axes)
    return None


@contextmanager
def quiet() -> Iterator[None]:
    """Exporters report progress and defects of their own on every channel; errors still propagate."""
    names = ("torch.onnx", "torch.export", "torch._export", "onnxscript", "onnx_ir", "torch.fx", "root")
    loggers = [logging.getLogger(None if name == "root" else name) for name in names]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
