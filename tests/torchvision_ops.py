"""Defines the operators that torchvision's Python half expects, for machines where its compiled half does not load.

With torchvision from PyPI beside a CPU build of torch, ``import torchvision`` fails because ``torchvision::nms`` and
``torchvision::qnms`` are not defined. Tests that need models of torchvision or timm call :func:`define` first.
"""

from __future__ import annotations

import torch

_kept: list[torch.library.Library] = []


def define() -> None:
    """Declares both operators, once; does nothing where torchvision works by itself."""
    if _kept:
        return
    try:
        import torchvision  # noqa: F401
    except Exception:
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)
