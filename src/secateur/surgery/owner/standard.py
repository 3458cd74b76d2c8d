"""What the attributes of torch's own modules say about their tensors.

Code seldom reads them, so that no operator shows their new value; people and printed models do. One visible table:
for each class, attributes and how they follow from the module's tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from secateur.graph import Attribute, Expression, Length, TracedInt


def _convolution(m: Any) -> dict[str, int]:
    return {"out_channels": m.weight.shape[0], "in_channels": m.weight.shape[1] * m.groups}


def _transposed(m: Any) -> dict[str, int]:
    return {"in_channels": m.weight.shape[0], "out_channels": m.weight.shape[1] * m.groups}


def _linear(m: Any) -> dict[str, int]:
    return {"out_features": m.weight.shape[0], "in_features": m.weight.shape[1]}


def _batch_norm(m: Any) -> dict[str, int]:
    known = next((t for t in (m.weight, m.running_mean) if t is not None), None)
    return {} if known is None else {"num_features": known.shape[0]}


def _group_norm(m: Any) -> dict[str, int]:
    return {} if m.weight is None else {"num_channels": m.weight.shape[0]}


def _recurrent(m: Any) -> dict[str, int]:
    gates = {"LSTM": 4, "GRU": 3}.get(m.mode, 1)
    found = {"input_size": m.weight_ih_l0.shape[1], "hidden_size": m.weight_ih_l0.shape[0] // gates}
    if m.proj_size:
        found["proj_size"] = m.weight_hr_l0.shape[0]
    return found


def _attention(m: Any) -> dict[str, int]:
    inner = m.in_proj_weight.shape[0] // 3 if m.in_proj_weight is not None else m.q_proj_weight.shape[0]
    found = {"embed_dim": m.out_proj.weight.shape[0], "head_dim": inner // m.num_heads}
    if m.in_proj_weight is None:
        found |= {"kdim": m.k_proj_weight.shape[1], "vdim": m.v_proj_weight.shape[1]}
    else:
        found |= {"kdim": m.in_proj_weight.shape[1], "vdim": m.in_proj_weight.shape[1]}
    return found


STANDARD: Mapping[type, Callable[[Any], dict[str, int]]] = {
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.Conv3d: _convolution,
    nn.ConvTranspose1d: _transposed,
    nn.ConvTranspose2d: _transposed,
    nn.ConvTranspose3d: _transposed,
    nn.Linear: _linear,
    nn.Bilinear: lambda m: dict(
        zip(("out_features", "in1_features", "in2_features"), m.weight.shape, strict=True)
    ),
    nn.Embedding: lambda m: {"embedding_dim": m.weight.shape[1]},
    nn.EmbeddingBag: lambda m: {"embedding_dim": m.weight.shape[1]},
    nn.modules.batchnorm._NormBase: _batch_norm,
    nn.GroupNorm: _group_norm,
    nn.PReLU: lambda m: {"num_parameters": m.weight.shape[0]},
    nn.RNNBase: _recurrent,
    nn.MultiheadAttention: _attention,
}


def describe(module: nn.Module) -> dict[str, int]:
    """Attributes of a standard module that follow from its tensors; empty for other classes."""
    for kind in module.__class__.__mro__:
        if kind in STANDARD:
            return STANDARD[kind](module)
    return {}


def expressions(path: str, module: nn.Module) -> dict[Attribute, Expression]:
    """The same as expressions over the lengths of the module's tensors, which have their names in the model."""
    try:
        found = describe(_Remembering(path, module))  # type: ignore[arg-type]
    except (AttributeError, TypeError, ValueError, ZeroDivisionError):
        return {}
    return {Attribute(path, (n,)): v.expression for n, v in found.items() if isinstance(v, TracedInt)}


class _Remembering:
    """A module whose tensors have sizes that remember where they come from."""

    def __init__(self, path: str, module: Any) -> None:
        self._path, self._module = path, module

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self._module)

    def __getattr__(self, name: str) -> Any:
        value, path = getattr(self._module, name), f"{self._path}.{name}" if self._path else name
        if isinstance(value, nn.Module):
            return _Remembering(path, value)
        return _Sized(path, value) if isinstance(value, Tensor) else value


class _Sized:
    def __init__(self, path: str, tensor: Tensor) -> None:
        self.shape = tuple(TracedInt(n, Length(path, i)) for i, n in enumerate(tensor.shape))
