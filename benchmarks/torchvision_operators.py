"""torchvision's operators in Python, for machines where its compiled half does not load.

With torchvision from PyPI beside a CPU build of torch, ``import torchvision`` fails, since ``torchvision::nms`` is
not defined, and detection models do not run. :func:`define` declares the operators under their own names and
with their own meaning, so that a program exported here is that of a machine where torchvision works. Slow;
``deform_conv2d`` and the quantised operators are left out.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import Tensor

_SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align": "(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor",
}
_ROWS = 256
_kept: list[torch.library.Library] = []


def define() -> None:
    """Declares the operators, once; does nothing where torchvision works by itself."""
    if _kept:
        return
    try:
        import torchvision
    except Exception:
        library = torch.library.Library("torchvision", "DEF")
        for name, schema in _SCHEMAS.items():
            library.define(f"{name}{schema}")
        _kept.append(library)
        try:
            import torchvision
        except Exception:
            return  # torchvision is not installed
        library.impl("nms", nms, "CPU")
        library.impl("roi_align", roi_align, "CPU")
        library.impl("roi_align", _roi_align_shape, "Meta")
        torchvision.extension._has_ops = lambda: True
        # The package's attribute of this name is the function; the module that asks is beneath it.
        sys.modules["torchvision.ops.roi_align"]._has_ops = lambda: True  # type: ignore[attr-defined]


def nms(dets: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Non-maximum suppression: indices ``[K]`` of boxes kept out of ``dets [N, 4]``, by falling score ``[N]``."""
    order = scores.sort(descending=True, stable=True).indices
    boxes = dets[order]
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    stays = np.ones(len(boxes), dtype=bool)
    for start in range(0, len(boxes), _ROWS):
        rows = slice(start, start + _ROWS)
        corner = torch.maximum(boxes[rows, None, :2], boxes[None, :, :2])
        size = (torch.minimum(boxes[rows, None, 2:], boxes[None, :, 2:]) - corner).clamp(min=0)
        shared = size[..., 0] * size[..., 1]
        covers = (shared / (area[rows, None] + area - shared) > iou_threshold).numpy()
        for i, covered in enumerate(covers, start=start):
            if stays[i]:
                stays[i + 1 :] &= ~covered[i + 1 :]
    return order[torch.from_numpy(stays)]


def roi_align(
    input: Tensor,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """``input [B, C, H, W]`` pooled over ``rois [K, 5]``, as torchvision's own Python version does it."""
    plain = sys.modules["torchvision.ops.roi_align"]._roi_align.__wrapped__
    pooled: Tensor = plain(input, rois, spatial_scale, pooled_height, pooled_width, sampling_ratio, aligned)
    return pooled


def _roi_align_shape(
    input: Tensor,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    return input.new_empty((rois.shape[0], input.shape[1], pooled_height, pooled_width))
