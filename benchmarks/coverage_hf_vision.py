"""Vision: classification, segmentation, detection, video."""

from __future__ import annotations

from typing import Any

from coverage_hf_entry import Entry, images, noise

VIT: dict[str, Any] = {
    "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 80, "image_size": 32,
    "patch_size": 8, "num_labels": 5,
}  # fmt: skip
SWIN: dict[str, Any] = {
    "image_size": 64, "patch_size": 4, "embed_dim": 16, "depths": [2, 2, 2], "num_heads": [2, 4, 8], "window_size": 4,
    "num_labels": 5,
}  # fmt: skip
RESNET: dict[str, Any] = {
    "embedding_size": 16, "hidden_sizes": [16, 24, 32, 40], "depths": [1, 1, 1, 1], "layer_type": "basic",
    "num_labels": 5, "out_features": ["stage4"],
}  # fmt: skip
DETR: dict[str, Any] = {
    "backbone_config": {"model_type": "resnet", **RESNET}, "use_timm_backbone": False, "use_pretrained_backbone": False,
    "backbone": None, "num_queries": 7, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "num_labels": 5,
}  # fmt: skip


BOXES = ("logits", "pred_boxes")


def _clip() -> dict[str, Any]:
    return {"pixel_values": noise(2, 4, 3, 32, 32)}


def _masked() -> dict[str, Any]:
    return {**images()(), "noise": noise(2, 16, seed=4)}


ENTRIES: dict[str, Entry] = {
    "vit": Entry("ViTForImageClassification", images(), VIT),
    "deit": Entry("DeiTForImageClassificationWithTeacher", images(), VIT),
    "beit": Entry("BeitForImageClassification", images(), {**VIT, "use_relative_position_bias": True, "layer_scale_init_value": 0.1}),
    "data2vec-vision": Entry("Data2VecVisionForImageClassification", images(), {
        **VIT, "use_shared_relative_position_bias": True, "layer_scale_init_value": 0.1}),
    "dinov2": Entry("Dinov2ForImageClassification", images(), {**VIT, "mlp_ratio": 2}),
    "dinov2-swiglu": Entry("Dinov2ForImageClassification", images(), {**VIT, "mlp_ratio": 2, "use_swiglu_ffn": True}),
    "dinov2-registers": Entry("Dinov2WithRegistersForImageClassification", images(), {**VIT, "mlp_ratio": 2}),
    "dinov3-vit": Entry("DINOv3ViTModel", images(), VIT),
    "vit-msn": Entry("ViTMSNForImageClassification", images(), VIT),
    "swin": Entry("SwinForImageClassification", images(64), SWIN),
    "swinv2": Entry("Swinv2ForImageClassification", images(64), SWIN),
    "convnext": Entry("ConvNextForImageClassification", images(64), {"hidden_sizes": [16, 24, 32, 40], "depths": [1, 1, 2, 1], "num_labels": 5}),
    "convnextv2": Entry("ConvNextV2ForImageClassification", images(64), {"hidden_sizes": [16, 24, 32, 40], "depths": [1, 1, 2, 1], "num_labels": 5}),
    "segformer": Entry("SegformerForSemanticSegmentation", images(64), {
        "hidden_sizes": [16, 24, 32, 40], "depths": [1, 1, 2, 1], "num_attention_heads": [1, 2, 4, 4], "decoder_hidden_size": 24,
        "num_labels": 5}),
    "resnet": Entry("ResNetForImageClassification", images(64), RESNET),
    "regnet": Entry("RegNetForImageClassification", images(64), {
        "embedding_size": 16, "hidden_sizes": [16, 24, 32, 40], "depths": [1, 1, 1, 1], "groups_width": 8, "num_labels": 5}),
    "mobilenet-v1": Entry("MobileNetV1ForImageClassification", images(64), {"depth_multiplier": 0.25, "num_labels": 5}),
    "mobilenet-v2": Entry("MobileNetV2ForImageClassification", images(64), {"depth_multiplier": 0.25, "num_labels": 5}),
    "mobilevit": Entry("MobileViTForImageClassification", images(64), {
        "image_size": 64, "hidden_sizes": [32, 40, 48], "neck_hidden_sizes": [8, 16, 24, 32, 40, 48, 64], "num_labels": 5}),
    "mobilevitv2": Entry("MobileViTV2ForImageClassification", images(64), {"image_size": 64, "width_multiplier": 0.25, "num_labels": 5}),
    "levit": Entry("LevitForImageClassificationWithTeacher", images(64), {
        "image_size": 64, "hidden_sizes": [32, 48, 64], "num_attention_heads": [2, 3, 4], "depths": [1, 1, 1], "key_dim": [8, 8, 8],
        "num_labels": 5}),
    "cvt": Entry("CvtForImageClassification", images(64), {
        "embed_dim": [16, 32, 48], "num_heads": [1, 2, 4], "depth": [1, 2, 3], "num_labels": 5}),
    "pvt": Entry("PvtForImageClassification", images(64), {
        "image_size": 64, "hidden_sizes": [16, 24, 32, 40], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 4, 4], "num_labels": 5}),
    "pvt-v2": Entry("PvtV2ForImageClassification", images(64), {
        "image_size": 64, "hidden_sizes": [16, 24, 32, 40], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 4, 4], "num_labels": 5}),
    "poolformer": Entry("PoolFormerForImageClassification", images(64), {
        "hidden_sizes": [16, 24, 32, 40], "depths": [1, 1, 1, 1], "num_labels": 5, "mlp_ratio": 2.0}),
    "focalnet": Entry("FocalNetForImageClassification", images(64), {
        "image_size": 64, "embed_dim": 16, "depths": [1, 1, 1, 1], "hidden_sizes": [16, 32, 64, 128], "num_labels": 5}),
    "hiera": Entry("HieraForImageClassification", images(64), {
        "image_size": [64, 64], "embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8], "num_labels": 5}),
    "detr": Entry("DetrForObjectDetection", images(64), DETR, returns=BOXES),
    "conditional-detr": Entry("ConditionalDetrForObjectDetection", images(64), DETR, returns=BOXES),
    "yolos": Entry("YolosForObjectDetection", images(), {**VIT, "image_size": [32, 32], "num_detection_tokens": 6}, returns=BOXES),
    "sam-encoder": Entry("SamVisionModel", images(64), {
        "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 64, "patch_size": 8, "window_size": 3,
        "global_attn_indexes": [1], "output_channels": 24, "mlp_dim": 80, "mlp_ratio": 2.0}),
    "videomae": Entry("VideoMAEForVideoClassification", _clip, {**VIT, "num_frames": 4, "tubelet_size": 2}),
    "timesformer": Entry("TimesformerForVideoClassification", _clip, {**VIT, "num_frames": 4}),
    "vivit": Entry("VivitForVideoClassification", _clip, {**VIT, "num_frames": 4, "tubelet_size": [2, 8, 8]}),
    "vit-mae": Entry("ViTMAEForPreTraining", _masked, {
        **VIT, "decoder_hidden_size": 32, "decoder_num_attention_heads": 4, "decoder_num_hidden_layers": 2, "decoder_intermediate_size": 48,
        "mask_ratio": 0.5}),
    "dpt": Entry("DPTForDepthEstimation", images(), {
        **VIT, "num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [8, 12, 16, 24], "fusion_hidden_size": 16, "is_hybrid": False}),
}  # fmt: skip
