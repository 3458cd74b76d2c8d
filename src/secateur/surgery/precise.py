"""Stand-ins for operators that torch cannot run in double precision, for the check alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor


def grouped_mm(
    rows: Tensor, stack: Tensor, offs: Tensor | None = None, bias: Tensor | None = None, out_dtype: Any = None
) -> Tensor:
    """``torch._grouped_mm`` of rows ``[S, K]`` sorted by matrix, and matrices ``[E, K, N]``; or of two stacks."""
    if rows.dim() == 3 and stack.dim() == 3:
        return rows @ stack
    if (rows.dim(), stack.dim()) != (2, 3) or offs is None or bias is not None:
        raise NotImplementedError("this form of grouped products has no check in double precision")
    ends = offs.tolist()
    out = rows.new_zeros(rows.shape[0], stack.shape[2])
    for start, end, matrix in zip([0, *ends], ends, stack, strict=False):
        out[start:end] = rows[start:end] @ matrix
    return out


PRECISE: Mapping[str, Callable[..., Any]] = {"aten::_grouped_mm": grouped_mm}
