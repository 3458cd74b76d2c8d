"""torchvision's own operators, by their registered names; torchvision itself is not imported."""

from __future__ import annotations

from secateur.coupling.facts import Axes, Facts
from secateur.coupling.rules.indices import positions
from secateur.coupling.values import Arguments


def regions(f: Facts, a: Arguments) -> list[Axes]:
    """``input [B, C, H, W]`` pooled over ``rois [K, 5]``, image and corners, to ``[K, C, height, width]``."""
    for axis in a.rois.axes:
        f.pin(axis, "it holds the corners of boxes")
    for i in (0, 2, 3):
        f.pin(a.input[i], "boxes are cut out of it")
    return [(f.pinned(n), a.input[1], f.pinned(h), f.pinned(w)) for n, _, h, w in a.outputs]


TABLE = {
    **dict.fromkeys(("torchvision::roi_align", "torchvision::roi_pool"), regions),
    "torchvision::nms": positions,
}
