"""What a traced model is: one frozen record that every later stage reads.

The program is an ``fx.GraphModule`` over high-level ATen operators, in evaluation mode. Its parameters
and buffers are the user's own tensors under their original names; no stage writes to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from secateur.errors import InputError


@dataclass(frozen=True)
class Graph:
    """A traced model.

    Args:
        module: the program; runs with the user's signature.
        args: positional example inputs (tensors of batch size ``batch``).
        kwargs: keyword example inputs.
        batch: the size of axis 0 in the examples; symbolic in the program if ``dynamic``.
        dynamic: whether the batch axis stayed symbolic.
        fingerprint: hash of the structure: operators, parameter names, shapes and types; not of values.
        folded: parameters whose value was computed once from a parameter-only part of the program, with the
            names of the parameters it was computed from.
        aliases: other names of tied parameters, ``{name in the user's model: name in the graph}``.
    """

    module: fx.GraphModule
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    batch: int
    dynamic: bool
    fingerprint: str
    folded: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def state(self) -> Mapping[str, Tensor]:
        """The tensors that the program reads, by name, each once, in order of use."""
        found = {str(n.target): n for n in self.module.graph.nodes if n.op == "get_attr"}
        values = {name: fetch(self.module, name) for name in found}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    @cached_property
    def shapes_alone(self) -> bool:
        """Whether the model was on the meta device: its program was compared with nothing, and nothing can be run."""
        return any(t.is_meta for t in self.state.values())

    @property
    def nodes(self) -> list[fx.Node]:
        """The nodes of the program, in order."""
        return list(self.module.graph.nodes)

    def tensor(self, name: str) -> Tensor:
        """The parameter, buffer or constant called ``name``."""
        return self.state[name] if name in self.state else fetch(self.module, name)

    def state_names(self) -> list[str]:
        """Names of the tensors that the program reads, each once, in order of use."""
        return list(self.state)

    @property
    def parameters(self) -> int:
        """Number of parameters that the program uses (buffers not counted)."""
        return sum(t.numel() for t in self.state.values() if isinstance(t, torch.nn.Parameter))


def flat_inputs(graph: Graph, inputs: Any) -> list[Any]:
    """What a program's placeholders take, in their order, from inputs of any form.

    Raises:
        InputError: they are not of the form that the model was traced with.
    """
    if isinstance(inputs, Mapping):
        given, wanted = sorted(inputs), sorted(graph.kwargs)
        if given != wanted:
            raise InputError(
                f"the inputs have the names {given}, and the model was traced with {wanted}: give these"
            )
        return list(pytree.tree_leaves(((), {name: inputs[name] for name in graph.kwargs})))
    args = inputs if isinstance(inputs, tuple) else (inputs,)
    if graph.kwargs or len(args) != len(graph.args):
        words = f"the names {sorted(graph.kwargs)}" if graph.kwargs else f"{len(graph.args)}"
        raise InputError(
            f"there are {len(args)} positional inputs, and the model was traced with {words}: give these"
        )
    return list(pytree.tree_leaves((args, {})))


def fetch(module: torch.nn.Module, target: str) -> Any:
    """The attribute of ``module`` at a dotted path."""
    value: Any = module
    for part in target.split("."):
        # A submodule is looked up where it is: the way through __getattr__ takes several times as long.
        inner = value._modules.get(part) if isinstance(value, nn.Module) else None
        value = getattr(value, part) if inner is None else inner
    return value


def read_by(module: fx.GraphModule) -> dict[str, Any]:
    """What a program reads, tensors and all else, by name, each once, in order of use."""
    names = dict.fromkeys(str(n.target) for n in module.graph.nodes if n.op in ("get_attr", "call_module"))
    return {name: fetch(module, name) for name in names}


def hint(value: Any) -> int:
    """The size in the example inputs of an integer that may be symbolic."""
    return value if isinstance(value, int) else int(value.node.hint)


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """The shape of a node's tensor in the example inputs."""
    return tuple(hint(s) for s in node.meta["val"].shape)


def bind(node: fx.Node) -> dict[str, Any]:
    """A call's raw arguments by schema name, defaults included."""
    arguments = _arguments(node.target)
    if arguments is None:
        return {str(i): a for i, a in enumerate(node.args)} | dict(node.kwargs)
    out = {name: node.kwargs.get(name, default) for name, default in arguments[len(node.args) :]}
    return dict(zip((name for name, _ in arguments), node.args, strict=False)) | out


@cache
def _arguments(target: Any) -> tuple[tuple[str, Any], ...] | None:
    """Names and defaults of an operator's arguments: reading them from its schema takes longer than a rule."""
    schema = getattr(target, "_schema", None)
    if schema is None:
        return None
    return tuple((a.name, a.default_value if a.has_default_value() else None) for a in schema.arguments)


def flat_arguments(node: fx.Node) -> list[Any]:
    """A call's arguments in the order of its schema, lists taken apart; places agree between calls of an operator."""
    found: list[Any] = []

    def visit(value: Any) -> None:
        if isinstance(value, (list, tuple)):
            for item in value:
                visit(item)
        else:
            found.append(value)

    for value in bind(node).values():
        visit(value)
    return found
