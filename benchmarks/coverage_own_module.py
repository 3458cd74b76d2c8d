"""A second check of a cut, which shares nothing with the first: on the user's own module, in double precision.

Where a removed unit is only ever summed over by weights (not normalised, averaged or multiplied with another
activation on the way), cutting it is the same as zeroing the weights' columns that read it. So the user's module
is copied, these columns are set to zero, and nothing else; its outputs must be those of the cut program. Neither
the masks nor the lockstep of the first check are used, so a rule that forgot to say what it reads shows here.
"""

from __future__ import annotations

import copy
import functools
import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from coverage_model import tensors
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from secateur.coupling import Axis, Coupling, Groups, Mixing, Value, bind, find_groups
from secateur.errors import SecateurError
from secateur.graph import fetch, op_name, trace
from secateur.surgery import Sizes, emit, relative_error
from secateur.surgery.precise import PRECISE

MOST_PARAMETERS = 150_000_000
_LINEAR = {"aten::linear": 1, "aten::conv1d": 1, "aten::conv2d": 1, "aten::conv3d": 1,
           "aten::conv_transpose1d": 0, "aten::conv_transpose2d": 0, "aten::conv_transpose3d": 0}  # fmt: skip
_PRODUCTS = frozenset(
    f"aten::{name}" for name in ("matmul", "mm", "bmm", "mv", "addmm", "baddbmm", "einsum", "__matmul__")
)


def own_module_error(model: nn.Module, groups: Groups, dead: np.ndarray) -> dict[str, Any]:
    """Compares the cut of what can be checked this way with the user's module, its reading columns zeroed.

    Args:
        model: the user's module, only read.
        groups: its groups.
        dead: int64 ``[atoms]``: what a plan removes.

    Returns:
        ``{"units": how many, "share": of those removed, "error": largest relative error of an output, "effect": how
        far the cut moves the outputs}``, or ``{"none": why it could not be done}``.
    """
    if groups.graph.parameters > MOST_PARAMETERS:
        return {"none": f"more than {MOST_PARAMETERS:,} parameters"}
    if groups.graph.folded:
        groups = _folded_in_double(model, groups)
    columns, closed = reading_columns(groups, {n for n, _ in model.named_parameters()})
    open_units = dead[~closed[dead]]
    if not len(open_units):
        return {"none": "every unit is normalised, averaged or multiplied with another activation"}
    sizes = Sizes(groups.coupling, groups.coupling.alive(open_units))
    with in_double(), torch.no_grad():
        try:
            cut = emit(groups, sizes).module.double()
            dense, theirs = (copy.deepcopy(model).double().eval() for _ in range(2))
            for (name, axis), labels in columns.items():
                gone = torch.from_numpy(np.nonzero(~sizes.mask(labels))[0])
                fetch(theirs, name).index_fill_(axis, gone, 0.0)
            args, kwargs = pytree.tree_map(_double, (groups.graph.args, dict(groups.graph.kwargs)))
            before, expected, found = (
                [_opened(t) for t in _tensors(m, args, kwargs)] for m in (dense, theirs, cut)
            )
        except (RuntimeError, TypeError, ValueError) as error:
            return {
                "none": f"in double precision: {(str(error).strip().splitlines() or ['no message'])[0][:160]}"
            }
    return {
        "units": len(open_units),
        "share": len(open_units) / max(len(dead), 1),
        "error": max(map(relative_error, found, expected), default=0.0),
        "effect": max(map(relative_error, before, expected), default=0.0),
    }


def _folded_in_double(model: nn.Module, groups: Groups) -> Groups:
    """The same groups with what follows from parameters alone computed in double precision, as the owner's module does.

    Where the model does not run in double precision by itself, these are rounded to single precision.
    """
    given = pytree.tree_map(_double, (groups.graph.args, dict(groups.graph.kwargs)))
    try:
        again = find_groups(trace(copy.deepcopy(model).double(), given[1] or given[0]))
    except (SecateurError, RuntimeError, TypeError):
        return groups
    same = [g.atoms.tolist() for g in again] == [g.atoms.tolist() for g in groups]
    return again if same else groups


def reading_columns(groups: Groups, names: set[str]) -> tuple[Mapping[tuple[str, int], Axis], np.ndarray]:
    """Parameter axes that sum over units, and bool ``[labels]``: the atoms that anything else reads across."""
    coupling, folded = groups.coupling, groups.graph.folded
    columns: dict[tuple[str, int], Axis] = {}
    closed = np.zeros(coupling.facts.size, dtype=bool)
    for mixing in coupling.facts.mixings:
        column = None if mixing.restricts else _column(coupling, mixing)
        if column is not None and column[0] in names and column[0] not in folded:
            columns[column] = coupling.state_axes[column[0]][column[1]]
        else:
            closed[_atoms(coupling, mixing.labels)] = True
    return columns, closed


def _column(coupling: Coupling, mixing: Mixing) -> tuple[str, int] | None:
    """The parameter axis that stands against the axis that is summed over, where the operand is a parameter."""
    node, given, kind = mixing.node, bind(mixing.node), op_name(mixing.node)
    if kind in _LINEAR and mixing.argument == "input":
        return _parameter(given["weight"], _LINEAR[kind])
    if kind in _PRODUCTS:
        # The axis of the other operand is known by its labels, which a parameter's own axis is given by identity.
        for other in node.all_input_nodes:
            value = coupling.values.get(other)
            if other.op == "get_attr" and isinstance(value, Value):
                for axis, labels in enumerate(value.axes):
                    if len(labels) == len(mixing.labels) and np.array_equal(
                        coupling.classes(labels), coupling.classes(mixing.labels)
                    ):
                        return str(other.target), axis
    return None


def _parameter(node: Any, axis: int) -> tuple[str, int] | None:
    return (str(node.target), axis) if isinstance(node, fx.Node) and node.op == "get_attr" else None


def _atoms(coupling: Coupling, labels: Axis) -> list[int]:
    return [a for c in np.unique(coupling.classes(labels)).tolist() for a in coupling.monomial(c)]


def _double(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def _tensors(module: nn.Module, args: Any, kwargs: Any) -> list[Tensor]:
    args, kwargs = copy.deepcopy((args, kwargs))
    return tensors(module(*args, **kwargs))


def _opened(value: Tensor) -> Tensor:
    """The lowest number there is stands for minus infinity, and depends on the precision."""
    if not value.is_floating_point():
        return value
    return torch.where(value.abs() >= torch.finfo(torch.float32).max / 2, value.sign() * torch.inf, value)


class _Promoting(TorchDispatchMode):
    """Casts to lower precision inside a model become casts to double."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = pytree.tree_map(_promoted, (args, kwargs or {}))
        name = func._schema.name
        return PRECISE.get(name, func)(*args, **kwargs)


class _Rounding(TorchFunctionMode):
    """Numbers that the code makes a tensor of are those that the program holds: in single precision."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if func in (torch.tensor, torch.scalar_tensor) and found.is_floating_point():
            return torch.from_numpy(found.numpy().astype(np.float32).astype(np.float64))
        return found


def _promoted(value: Any) -> Any:
    if isinstance(value, torch.dtype) and value in (torch.float32, torch.float16, torch.bfloat16):
        return torch.float64
    return torch.complex128 if value is torch.complex64 else value


def _forget_constants() -> None:
    """Clears caches of functions outside torch: they may hold what a model once computed in single precision."""
    for found in gc.get_objects():
        if isinstance(found, functools._lru_cache_wrapper) and not found.__module__.startswith("torch"):
            found.cache_clear()


@contextmanager
def in_double() -> Iterator[None]:
    """Everything that makes or casts floating point numbers gives double precision."""
    before = torch.get_default_dtype()
    _forget_constants()
    torch.set_default_dtype(torch.float64)
    try:
        with _Promoting(), _Rounding():
            yield
    finally:
        torch.set_default_dtype(before)
