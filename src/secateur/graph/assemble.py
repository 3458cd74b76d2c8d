"""The module of a program: its tensors under their names, and its graph.

``fx.GraphModule`` does the same, but writes Python code of the graph each time, which takes longer than all the rest;
a program that is only read needs none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx, nn


def assemble(state: Mapping[str, Any], graph: fx.Graph, class_name: str = "GraphModule") -> fx.GraphModule:
    """A program in evaluation mode that cannot be called yet: ``recompile()`` writes its code.

    Args:
        state: what the graph reads, by dotted name, in the order in which the module lists it.
        graph: the program; from now on the module's.
        class_name: what the module calls itself.
    """
    module = fx.GraphModule({}, fx.Graph(), class_name)
    del type(module).forward  # that of the empty graph
    homes: dict[str, nn.Module] = {"": module}
    for name, value in state.items():
        path, _, leaf = name.rpartition(".")
        home = _home(homes, path)
        if isinstance(value, nn.Parameter):
            home._parameters[leaf] = value
        elif isinstance(value, Tensor):
            home._buffers[leaf] = value
        else:
            setattr(home, leaf, value)
    module._graph = graph
    graph.owning_module = module
    module.train(False)
    return module


def _home(homes: dict[str, nn.Module], path: str) -> nn.Module:
    """The submodule at a dotted path; a plain one is made where there is none."""
    if path not in homes:
        above, _, name = path.rpartition(".")
        owner = _home(homes, above)
        inner = owner._modules.get(name)
        if inner is None:
            inner = owner._modules[name] = nn.Module()
        homes[path] = inner
    return homes[path]
