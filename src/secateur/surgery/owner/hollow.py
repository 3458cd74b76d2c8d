"""What stands in the user's own class where a module was removed: no weights, the same calls.

The code around it still calls the module and goes on with what it returns. A removed layer returns what came in; a
removed branch returns zeros, which the sum that follows adds. Numbers and flags that other code looks up on the module
(``layer.self_attn.batch_first``) are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

_PLAIN = (bool, int, float, str, torch.dtype, torch.Size)
_OWN = frozenset(nn.Module().__dict__)


@dataclass(frozen=True)
class Passed:
    """A tensor that is handed on: the ``index``-th of those that come in."""

    index: int


@dataclass(frozen=True)
class Zeros:
    """A tensor of zeros.

    Args:
        sizes: of its axes: a number, or ``(tensor that comes in, its axis)``.
        dtype: where it does not have that of the tensor ``like``.
        like: a tensor that comes in.
    """

    sizes: tuple[int | tuple[int, int], ...]
    dtype: torch.dtype | None
    like: int

    def made(self, given: Sequence[Tensor]) -> Tensor:
        """The zeros beside these tensors."""
        sizes = [n if isinstance(n, int) else given[n[0]].shape[n[1]] for n in self.sizes]
        return given[self.like].new_zeros(sizes, dtype=self.dtype)


@dataclass(frozen=True)
class Returned:
    """What a removed module returns: leaves, each a rule or a constant, in the structure that it returned."""

    leaves: tuple[Any, ...]
    structure: pytree.TreeSpec


@dataclass(frozen=True)
class Removed:
    """What of a user's module goes.

    Args:
        modules: by path, what each returns from now on.
        bare: names of parameters that modules hold which stay.
        doubt: what might keep the rest from computing the right thing; empty if nothing is known.
    """

    modules: Mapping[str, Returned] = field(default_factory=dict)
    bare: tuple[str, ...] = ()
    doubt: str = ""

    def take_(self, model: nn.Module) -> None:
        """Takes it out of ``model``, in place."""
        for path, returned in self.modules.items():
            old = model.get_submodule(path)
            stand_in = hollowed(old, returned)
            for parent in list(model.modules()):  # under every name that it has
                parent._modules.update({n: stand_in for n, child in parent._modules.items() if child is old})
        for name in self.bare:
            path, _, leaf = name.rpartition(".")
            owner = model.get_submodule(path)
            like = owner.get_parameter(leaf).detach()
            delattr(owner, leaf)
            # Zeros that broadcast, so that the code that scales a branch by it goes on running.
            owner.register_buffer(leaf, like.new_zeros([1] * like.dim()), persistent=False)


class Hollow(nn.Module):
    """A removed module.

    Args:
        kind: name of the class that was here.
        returned: what it returns; None for a module inside of another removed one, which nothing calls.
    """

    def __init__(self, kind: str, returned: Returned | None = None) -> None:
        super().__init__()
        self._kind = kind
        self._returned = returned

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Hands on what comes in, or gives zeros."""
        if self._returned is None:
            raise RuntimeError(f"this {self._kind} was removed with the layer that it belongs to")
        given = tensors_in((args, kwargs))
        leaves = [
            given[leaf.index]
            if isinstance(leaf, Passed)
            else leaf.made(given)
            if isinstance(leaf, Zeros)
            else leaf
            for leaf in self._returned.leaves
        ]
        return pytree.tree_unflatten(leaves, self._returned.structure)

    def extra_repr(self) -> str:
        """The class that was here."""
        return f"was {self._kind}"


def hollowed(module: nn.Module, returned: Returned | None = None) -> Hollow:
    """A stand-in for a module: its flags and numbers, those of the modules in it, and no tensor."""
    hollow = Hollow(type(module).__name__, returned)
    for name, value in module.__dict__.items():
        if name not in _OWN and _is_plain(value):
            hollow.__dict__[name] = value
    for name, child in module.named_children():
        hollow.add_module(name, hollowed(child))
    hollow.train(module.training)
    return hollow


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors in nested containers, in order."""
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def _is_plain(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return all(_is_plain(v) for v in value)
    return value is None or isinstance(value, _PLAIN)
