"""A program as data: operators of torch's registry and their arguments, as JSON.

Nothing in it is executed but operators that torch's registry knows by name, a fixed list of Python's
arithmetic on sizes, and two functions of ours for modes. Weights are kept apart.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.graph import _PyTreeCodeGen, _PyTreeInfo
from torch.utils import _pytree as pytree

from secateur.errors import CorruptFile, InputError
from secateur.graph.modes import MODE_FUNCTIONS
from secateur.graph.record import fetch

VERSION = 1

_FUNCTIONS: dict[str, Any] = {
    **{
        f"operator.{name}": getattr(operator, name)
        for name in (
            "add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "pow", "getitem", "eq", "ne", "lt", "le",
            "gt", "ge", "and_", "or_", "not_",
        )
    },
    **{f"math.{name}": getattr(math, name) for name in ("ceil", "floor", "sqrt", "trunc")},
    **{f"torch.{n}": getattr(torch, n) for n in ("sym_float", "sym_int", "sym_max", "sym_min", "sym_not", "sym_ite")},
    **{f"secateur.{name}": function for name, function in MODE_FUNCTIONS.items()},
}  # fmt: skip
_NAMES = {function: name for name, function in _FUNCTIONS.items()}

_FORBIDDEN = ("prim", "prims", "profiler", "_test", "inductor", "higher_order")
_FORBIDDEN_OPERATORS = ("aten::from_file",)

_NAMED = {
    torch.dtype: lambda text: getattr(torch, text),
    torch.layout: lambda text: getattr(torch, text),
    torch.memory_format: lambda text: getattr(torch, text),
}


def encode(module: fx.GraphModule) -> dict[str, Any]:
    """A program as plain data; its tensors are named, not stored.

    Raises:
        InputError: it calls something that has no name in torch's registry.
    """
    codegen = module.graph._codegen
    info = codegen.pytree_info if isinstance(codegen, _PyTreeCodeGen) else None
    tensors: dict[str, dict[str, Any]] = {}
    first: dict[int, str] = {}
    nodes = []
    for node in module.graph.nodes:
        nodes.append(
            {
                "name": node.name,
                "op": node.op,
                "target": _target_name(node),
                "args": [_encode(a) for a in node.args],
                "kwargs": {k: _encode(v) for k, v in node.kwargs.items()},
            }
        )
        if node.op == "get_attr" and node.target != "training":
            value = fetch(module, str(node.target))
            if not isinstance(value, Tensor):
                raise InputError(
                    f"'{node.target}' is a {type(value).__name__}, which cannot be stored as data"
                )
            tensors[str(node.target)] = {
                "parameter": isinstance(value, nn.Parameter),
                "requires_grad": bool(value.requires_grad),
                "same_as": first.setdefault(id(value), str(node.target)),
            }
    return {
        "version": VERSION,
        "arguments": list(info.orig_args) if info else [],
        "inputs": pytree.treespec_dumps(info.in_spec) if info and info.in_spec else None,
        "outputs": pytree.treespec_dumps(info.out_spec) if info and info.out_spec else None,
        "tensors": tensors,
        "nodes": nodes,
    }


def decode(data: Mapping[str, Any], weights: Mapping[str, Tensor]) -> fx.GraphModule:
    """The program that :func:`encode` described, with these tensors.

    Raises:
        CorruptFile: the data is not such a program, or a tensor is missing.
    """
    try:
        if data["version"] != VERSION:
            raise CorruptFile(
                f"the program is of version {data['version']}; this Secateur reads version {VERSION}"
            )
        state = _state(data["tensors"], weights)
        graph = fx.Graph()
        nodes: dict[str, fx.Node] = {}
        for item in data["nodes"]:
            nodes[item["name"]] = graph.create_node(
                item["op"],
                _target(item["op"], item["target"]),
                tuple(_decode(a, nodes) for a in item["args"]),
                {k: _decode(v, nodes) for k, v in item["kwargs"].items()},
                name=item["name"],
            )
            if item["op"] == "get_attr" and item["target"] == "training":
                state["training"] = False
        if data["inputs"] is not None:
            specs = [
                pytree.treespec_loads(data[k]) if data[k] is not None else None for k in ("inputs", "outputs")
            ]
            graph.set_codegen(_PyTreeCodeGen(_PyTreeInfo(list(data["arguments"]), specs[0], specs[1])))  # type: ignore[arg-type]
        module = fx.GraphModule(state, graph, class_name="Pruned")
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, NotImplementedError) as error:
        raise CorruptFile(f"the program cannot be rebuilt: {type(error).__name__}: {error}") from error
    module.train(False)
    return module


def _state(tensors: Mapping[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for name, entry in tensors.items():
        source = entry["same_as"]
        if source != name:
            state[name] = state[source]
            continue
        if name not in weights:
            raise CorruptFile(
                f"the weight file has no tensor '{name}'; it is truncated or of another program"
            )
        tensor = weights[name]
        state[name] = (
            nn.Parameter(tensor, requires_grad=entry["requires_grad"]) if entry["parameter"] else tensor
        )
    return state


def _target_name(node: fx.Node) -> str:
    if node.op != "call_function":
        return str(node.target)
    if isinstance(node.target, torch._ops.OpOverload):
        return f"{node.target._schema.name}.{node.target._overloadname}"
    if node.target in _NAMES:
        return _NAMES[node.target]
    raise InputError(f"the program calls {node.target}, which is no operator of torch's registry")


def _target(op: str, name: str) -> Any:
    if op not in ("placeholder", "get_attr", "call_function", "output"):
        raise CorruptFile(f"the program holds a node of kind '{op}'")
    if op != "call_function":
        return name
    if name in _FUNCTIONS:
        return _FUNCTIONS[name]
    space, _, rest = name.partition("::")
    operator_name, _, overload = rest.rpartition(".")
    if not rest or space in _FORBIDDEN or f"{space}::{operator_name}" in _FORBIDDEN_OPERATORS:
        raise CorruptFile(f"the program names the operator '{name}', which programs may not call")
    try:
        found = getattr(getattr(getattr(torch.ops, space), operator_name), overload or "default")
    except AttributeError:
        found = None
    if not isinstance(found, torch._ops.OpOverload):
        raise CorruptFile(
            f"the program calls '{space}::{operator_name}', which torch does not know: import the package that "
            "registers it, then load again"
        )
    return found


def _encode(value: Any) -> Any:
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, tuple):
        return {"tuple": [_encode(v) for v in value]}
    if isinstance(value, list):
        return [_encode(v) for v in value]
    if isinstance(value, slice):
        return {"slice": [_encode(v) for v in (value.start, value.stop, value.step)]}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    for kind in _NAMED:
        if isinstance(value, kind):
            return {kind.__name__: str(value).removeprefix("torch.")}
    raise InputError(f"an argument of type {type(value).__name__} cannot be stored as data")


def _decode(value: Any, nodes: Mapping[str, fx.Node]) -> Any:
    if isinstance(value, list):
        return [_decode(v, nodes) for v in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "node":
        return nodes[content]
    if kind == "float":
        return float(content)
    if kind == "tuple":
        return tuple(_decode(v, nodes) for v in content)
    if kind == "slice":
        return slice(*(_decode(v, nodes) for v in content))
    if kind == "device":
        return torch.device(content)
    if kind == "complex":
        return complex(*content)
    for named, read in _NAMED.items():
        if kind == named.__name__:
            found = read(content)
            if isinstance(found, named):
                return found
    raise CorruptFile(f"the program holds an argument of unknown kind '{kind}'")
