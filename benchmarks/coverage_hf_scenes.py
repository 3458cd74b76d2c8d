"""Detection, segmentation, depth, pose, super-resolution."""

from __future__ import annotations

from typing import Any

from coverage_hf_entry import Entry, images, noise
from coverage_hf_vision import RESNET, SWIN, VIT

DETR: dict[str, Any] = {
    "backbone_config": {"model_type": "resnet", **RESNET}, "use_timm_backbone": False, "use_pretrained_backbone": False,
    "backbone": None, "num_queries": 7, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
    "num_labels": 5,
}  # fmt: skip
LEVELS: dict[str, Any] = {
    **DETR,
    "backbone_config": {"model_type": "resnet", **RESNET, "out_features": ["stage2", "stage3", "stage4"]},
}
WINDOWS: dict[str, Any] = {
    "backbone_config": {
        "model_type": "swin", **SWIN, "depths": [1, 1, 1, 1], "num_heads": [2, 2, 4, 4],
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    },
    "use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None, "num_labels": 5,
}  # fmt: skip
RT: dict[str, Any] = {
    "backbone_config": {"model_type": "rt_detr_resnet", **RESNET, "out_features": ["stage2", "stage3", "stage4"]},
    "encoder_hidden_dim": 32, "encoder_in_channels": [24, 32, 40], "feat_strides": [8, 16, 32], "encoder_layers": 1,
    "encoder_ffn_dim": 48, "encoder_attention_heads": 4, "d_model": 32, "num_queries": 6, "num_labels": 5,
    "decoder_in_channels": [32, 32, 32], "decoder_ffn_dim": 48, "decoder_layers": 2, "decoder_attention_heads": 4,
    "decoder_n_points": 2, "num_feature_levels": 3, "anchor_image_size": [64, 64], "hidden_expansion": 1.0,
}  # fmt: skip
BOXES, MASKS = ("logits", "pred_boxes"), ("class_queries_logits", "masks_queries_logits")


ENTRIES: dict[str, Entry] = {
    "detr": Entry("DetrForObjectDetection", images(64), DETR, returns=BOXES),
    "conditional-detr": Entry("ConditionalDetrForObjectDetection", images(64), DETR, returns=BOXES),
    "yolos": Entry("YolosForObjectDetection", images(), {**VIT, "image_size": [32, 32], "num_detection_tokens": 6},
        returns=BOXES),
    "dpt": Entry("DPTForDepthEstimation", images(), {**VIT, "num_hidden_layers": 4, "backbone_out_indices": [0, 1,
        2, 3], "neck_hidden_sizes": [8, 12, 16, 24], "fusion_hidden_size": 16, "is_hybrid": False}),
    "segformer": Entry("SegformerForSemanticSegmentation", images(64), {"hidden_sizes": [16, 24, 32, 40],
        "depths": [1, 1, 2, 1], "num_attention_heads": [1, 2, 4, 4], "decoder_hidden_size": 24, "num_labels": 5}),
    "glpn": Entry("GLPNForDepthEstimation", images(64), {"hidden_sizes": [16, 24, 32, 40], "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 2, 4, 4], "decoder_hidden_size": 16, "max_depth": 10}),
    "depth-anything": Entry("DepthAnythingForDepthEstimation", images(56),
        {"backbone_config": {"model_type": "dinov2", **VIT, "num_hidden_layers": 4, "image_size": 56,
        "patch_size": 14, "out_features": ["stage1", "stage2", "stage3", "stage4"], "reshape_hidden_states": False},
        "patch_size": 14, "neck_hidden_sizes": [8, 12, 16, 24], "fusion_hidden_size": 16, "head_hidden_size": 8,
        "reassemble_hidden_size": 48}),
    "vitpose": Entry("VitPoseForPoseEstimation", lambda: {"pixel_values": noise(2, 3, 32, 32)},
        {"backbone_config": {"model_type": "vitpose_backbone", **VIT, "image_size": [32, 32], "patch_size": [8, 8],
        "out_features": ["stage3"], "num_experts": 1}, "num_labels": 5}),
    "vitmatte": Entry("VitMatteForImageMatting", lambda: {"pixel_values": noise(2, 4, 64, 64)},
        {"backbone_config": {"model_type": "vitdet", **VIT, "patch_size": 16, "image_size": 64,
        "pretrain_image_size": 64, "num_channels": 4, "window_size": 3, "window_block_indices": [0],
        "out_features": ["stage3"]}, "hidden_size": 48, "convstream_hidden_sizes": [8, 16, 24],
        "fusion_hidden_sizes": [32, 24, 16, 8]}),
    "upernet": Entry("UperNetForSemanticSegmentation", images(64), {"backbone_config": {"model_type": "convnext",
        "hidden_sizes": [16, 24, 32, 40], "depths": [1, 1, 1, 1], "out_features": ["stage1", "stage2", "stage3",
        "stage4"]}, "hidden_size": 24, "auxiliary_channels": 12, "auxiliary_in_channels": 32, "num_labels": 5,
        "use_pretrained_backbone": False, "backbone": None, "use_auxiliary_head": True}),
    "beit-segmenter": Entry("BeitForSemanticSegmentation", images(64), {**VIT, "num_hidden_layers": 4,
        "image_size": 64, "patch_size": 16, "out_indices": [1, 2, 3, 4], "use_relative_position_bias": True,
        "layer_scale_init_value": 0.1, "auxiliary_channels": 12, "auxiliary_loss_weight": 0.0}),
    "maskformer": Entry("MaskFormerForInstanceSegmentation", images(64), {**WINDOWS,
        "decoder_config": {"model_type": "detr", "d_model": 32, "encoder_layers": 1, "decoder_layers": 2,
        "num_queries": 6, "encoder_attention_heads": 4, "decoder_attention_heads": 4, "decoder_ffn_dim": 48,
        "encoder_ffn_dim": 48}, "fpn_feature_size": 32, "mask_feature_size": 32}, returns=MASKS),
    "mask2former": Entry("Mask2FormerForUniversalSegmentation", images(64), {**WINDOWS, "feature_size": 32,
        "mask_feature_size": 32, "hidden_dim": 32, "encoder_feedforward_dim": 48, "encoder_layers": 2,
        "decoder_layers": 3, "num_attention_heads": 4, "dim_feedforward": 48, "num_queries": 6, "num_labels": 5,
        "num_hidden_layers": 3}, returns=MASKS),
    "rt-detr": Entry("RTDetrForObjectDetection", images(64), RT, returns=BOXES),
    "rt-detr-v2": Entry("RTDetrV2ForObjectDetection", images(64), RT, returns=BOXES),
    "deformable-detr": Entry("DeformableDetrForObjectDetection", images(64), {**LEVELS,
        "num_feature_levels": 3, "encoder_n_points": 2, "decoder_n_points": 2}, returns=BOXES),
    "table-transformer": Entry("TableTransformerForObjectDetection", images(64), DETR, returns=BOXES),
    "dab-detr": Entry("DabDetrForObjectDetection", images(64), {**DETR, "hidden_size": 32, "num_patterns": 0},
        returns=BOXES),
    "sam-encoder": Entry("SamVisionModel", images(64), {"hidden_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 4, "image_size": 64, "patch_size": 8, "window_size": 3, "global_attn_indexes": [1],
        "output_channels": 24, "mlp_dim": 80, "mlp_ratio": 2.0}),
    "sam2-vision": Entry("Sam2VisionModel", images(64), {"backbone_config": {"model_type": "sam2_hiera_det_model",
        "hidden_size": 16, "num_attention_heads": 1, "image_size": [64, 64], "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [16, 32, 64, 128], "num_attention_heads_per_stage": [1, 2, 4, 8],
        "window_size_per_stage": [4, 2, 2, 2], "global_attention_blocks": [3],
        "window_positional_embedding_background_size": [4, 4]}, "backbone_channel_list": [128, 64, 32, 16],
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]], "fpn_hidden_size": 24}),
    "sam": Entry("SamModel", lambda: {**images(64)(), "input_points": noise(2, 1, 2, 2).abs() * 20,
        "multimask_output": False}, {"vision_config": {"hidden_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "image_size": 64, "patch_size": 8, "window_size": 3, "global_attn_indexes": [1],
        "output_channels": 24, "num_pos_feats": 12, "mlp_dim": 80}, "prompt_encoder_config": {"hidden_size": 24,
        "image_size": 64, "patch_size": 8, "mask_input_channels": 8}, "mask_decoder_config": {"hidden_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 4, "mlp_dim": 48, "iou_head_hidden_dim": 24,
        "attention_downsample_rate": 2}}, returns=("iou_scores", "pred_masks")),
    "superpoint": Entry("SuperPointForKeypointDetection", lambda: {"input": noise(2, 1, 64, 64)},
        {"encoder_hidden_sizes": [8, 8, 16, 16], "decoder_hidden_size": 24, "keypoint_decoder_dim": 65,
        "descriptor_decoder_dim": 24}, part="encoder"),
    "swin2sr": Entry("Swin2SRForImageSuperResolution", images(32), {"image_size": 32, "embed_dim": 24, "depths": [2,
        2], "num_heads": [2, 4], "window_size": 4, "upscale": 2, "upsampler": "pixelshuffle"}),
}  # fmt: skip
