"""torchvision's models for the coverage table: every name of ``list_models``, and how it is built small.

Weights are drawn at random, inputs are as small as each architecture allows. Detection models choose boxes by
their values, which ``torch.export`` refuses; each stands here twice, whole and as ``NAME.network``: all of its
layers on given images and proposals, without the choosing.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torchvision_operators import define
from zoo_models import randomise

from secateur.task import Inputs

NETWORK = ".network"

_SIZES = {
    "inception_v3": 96, "quantized_inception_v3": 96, "maxvit_t": 224, "vit_h_14": 56, "vit": 64,
    "swin": 112, "ssd300_vgg16": 300, "ssdlite320_mobilenet_v3_large": 320,
}  # fmt: skip


def names() -> list[str]:
    """All models that torchvision lists; detection models as their networks, too."""
    define()
    from torchvision.models import detection, list_models

    parts = [name + NETWORK for name in list_models(module=detection)]
    return sorted([*list_models(), *parts])


def build(name: str) -> tuple[nn.Module, Inputs]:
    """A model with random weights, in evaluation mode, and inputs of a batch of two that it takes."""
    define()
    from torchvision.models import detection, get_model, list_models, optical_flow, video

    torch.manual_seed(0)
    short = name.removesuffix(NETWORK)
    detects = short in list_models(module=detection)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _small_mvit():
            model: Any = get_model(short, weights=None, **_options(short, detects))
    randomise(model)
    model.eval()
    if detects:
        images = torch.rand(2, 3, *[_size(short)] * 2)
        return _network(model, images) if name != short else (model, ([*images],))
    if short in list_models(module=video):
        return model, torch.randn(2, 3, *_clip(short))
    if short in list_models(module=optical_flow):
        # Flow is a difference of coordinates: less than a pixel of it, as fresh weights give, is mostly rounding.
        with torch.no_grad():
            model.update_block.flow_head.conv2.weight.mul_(8.0)
        return model, (torch.rand(2, 3, 128, 128) * 2 - 1, torch.rand(2, 3, 128, 128) * 2 - 1)
    return model, torch.randn(2, 3, *[_size(short)] * 2)


def _size(name: str) -> int:
    """Height and width of the images; 64 unless the architecture asks for more."""
    return next((size for start, size in _SIZES.items() if name.startswith(start)), 64)


def _clip(name: str) -> tuple[int, int, int]:
    """Frames, height and width of a video."""
    if name == "s3d":
        return 14, 224, 224
    return (8, 64, 64) if name.startswith(("mvit", "swin3d")) else (4, 32, 32)


def _options(name: str, detects: bool) -> dict[str, Any]:
    if name.startswith("quantized_"):
        return {"quantize": False}
    if name.startswith("vit_"):
        return {"image_size": _size(name)}
    if name in ("googlenet", "inception_v3"):
        return {"init_weights": False}  # truncated normals take seconds, and are drawn for nothing
    if detects and not name.startswith("ssd"):  # images are made this large first, whatever they were
        return {"weights_backbone": None, "min_size": _size(name), "max_size": _size(name)}
    if detects or name.startswith(("fcn_", "deeplabv3_", "lraspp_")):
        return {"weights_backbone": None}
    return {}


@contextmanager
def _small_mvit() -> Iterator[None]:
    """Builders of MViT write their input's size down; positions and their differences need to know it."""
    from torchvision.models.video import mvit

    frames, *space = _clip("mvit")
    whole = mvit._mvit

    def small(*args: Any, **options: Any) -> nn.Module:
        return whole(*args, **{**options, "temporal_size": frames, "spatial_size": tuple(space)})

    with mock.patch.object(mvit, "_mvit", small):
        yield


class _OneStage(nn.Module):
    """Backbone and head of a detector whose anchors are everywhere."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = model.backbone, model.head

    def forward(self, images: Tensor) -> Any:
        return self.head(list(self.backbone(images).values()))


class _TwoStages(nn.Module):
    """Backbone, proposal head, and the heads that look at given proposals."""

    def __init__(self, model: Any, size: tuple[int, int]) -> None:
        super().__init__()
        self.backbone, self.proposing, self.heads = model.backbone, model.rpn.head, model.roi_heads
        self.size = size

    def forward(self, images: Tensor, proposals: Tensor) -> list[Any]:
        features = self.backbone(images)
        out = [self.proposing(list(features.values()))]
        heads = self.heads
        boxes, sizes = list(proposals.unbind(0)), [self.size] * len(proposals)
        out.append(heads.box_predictor(heads.box_head(heads.box_roi_pool(features, boxes, sizes))))
        if heads.has_mask():
            out.append(heads.mask_predictor(heads.mask_head(heads.mask_roi_pool(features, boxes, sizes))))
        if heads.has_keypoint():
            pooled = heads.keypoint_roi_pool(features, boxes, sizes)
            out.append(heads.keypoint_predictor(heads.keypoint_head(pooled)))
        return out


def _network(model: Any, images: Tensor) -> tuple[nn.Module, Inputs]:
    if not hasattr(model, "roi_heads"):
        return _OneStage(model).eval(), images
    size = (images.shape[-2], images.shape[-1])
    corners = torch.rand(len(images), 5, 2) * size[0] / 2
    boxes = torch.cat([corners, corners + 4 + torch.rand_like(corners) * size[0] / 3], -1)
    return _TwoStages(model, size).eval(), (images, boxes)
