"""A model as one ONNX file, through the exporter that reads ``torch.export`` programs.

Stack traces and source paths, which the exporter writes into every node, are left out: they are of no use to a
runtime, make the file larger, and tell where it was made.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secateur.deploy.extras import require
from secateur.deploy.inputs import named_inputs, named_tensors
from secateur.deploy.program import as_arguments, evaluation_copy, exported_program, quiet
from secateur.errors import NotExportable
from secateur.files import whole_file
from secateur.task import Inputs, call, to_device

OPSET = 20  # the newest that ONNX Runtime 1.17 and later run and quantise throughout


def export_onnx(model: nn.Module, example_inputs: Inputs, path: str | Path) -> Path:
    """Writes ``model`` as ONNX, weights included, batch axis free where the model allows it.

    Args:
        model: any module that ``torch.export`` takes, graph modules included; it is copied, not changed.
        example_inputs: a tensor, a tuple or a dict of keyword arguments; axis 0 is the batch.
        path: the file to write, whole or not at all.

    Returns:
        The path. Inputs and outputs are called as :mod:`secateur.deploy.inputs` says.

    Raises:
        NotExportable: the model has no exported program, or an operator has no ONNX form.
        MissingExtra: onnx or onnxscript is not installed.
        RunFolderError: the file cannot be written.
    """
    for package in ("onnx", "onnxscript"):
        require(package, "onnx", "exporting to ONNX")
    destination = Path(path)
    program = exported_program(model, example_inputs)
    args, kwargs = as_arguments(to_device(example_inputs, "cpu"))
    try:
        with quiet(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            converted = torch.onnx.export(
                program,
                args,
                kwargs=kwargs,
                dynamo=True,
                external_data=False,
                verbose=False,
                opset_version=OPSET,
            )
    except Exception as error:
        raise NotExportable(f"no ONNX form: {type(error).__name__}: {_deepest_line(error)}") from error
    if converted is None:
        raise NotExportable("the ONNX exporter returned nothing")
    _rename(converted.model.graph, model, example_inputs)
    _forget_sources(converted.model)
    with whole_file(destination) as temporary:
        try:
            converted.save(str(temporary), external_data=False)
        except ValueError as error:  # protobuf's limit
            raise NotExportable(f"the model exceeds the 2 GB that one ONNX file can hold: {error}") from error
    return destination


def _rename(graph: Any, model: nn.Module, example_inputs: Inputs) -> None:
    """Gives inputs and outputs the names that depend on their form alone, where the counts agree.

    Keyword arguments already carry their names, in the order of the signature.
    """
    wanted = list(named_inputs(example_inputs))
    if not {value.name for value in graph.inputs} <= set(wanted):
        _name_values(graph, graph.inputs, wanted)
    with torch.no_grad(), quiet():
        outputs = call(evaluation_copy(model), to_device(example_inputs, "cpu"))
    _name_values(graph, graph.outputs, list(named_tensors(outputs, "output")))


def _name_values(graph: Any, values: Any, names: list[str]) -> None:
    """Names ``values``; another value of that name steps aside, unless it is a weight or an input: then all stays."""
    targets = {id(value) for value in values}
    fixed = {v.name for v in (*graph.inputs, *graph.initializers.values()) if id(v) not in targets}
    if len(names) != len(values) or len(targets) != len(names) or fixed & set(names):
        return
    if any(value in graph.inputs for value in values) and values is not graph.inputs:
        return
    for node in graph.all_nodes():
        for value in node.outputs:
            if value.name in names and id(value) not in targets:
                value.name = f"{value.name}_inner"
    for index, value in enumerate(values):
        value.name = f"__{index}"  # so that two values never share a name on the way
    for value, name in zip(values, names, strict=True):
        value.name = name


def _forget_sources(model: Any) -> None:
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in (*node.outputs, *node.inputs):
            if value is not None:
                value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


def _deepest_line(error: BaseException) -> str:
    """The exporter wraps the cause in banners; the innermost exception says what is wrong."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
