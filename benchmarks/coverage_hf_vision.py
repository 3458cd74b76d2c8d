"""Images and videos: classifiers and plain encoders."""

from __future__ import annotations

from typing import Any

from coverage_hf_entry import Entry, ids, images, noise

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


def _clip() -> dict[str, Any]:
    return {"pixel_values": noise(2, 4, 3, 32, 32)}


def _masked() -> dict[str, Any]:
    return {**images()(), "noise": noise(2, 16, seed=4)}


ENTRIES: dict[str, Entry] = {
    "vit": Entry("ViTForImageClassification", images(), VIT),
    "deit": Entry("DeiTForImageClassificationWithTeacher", images(), VIT),
    "beit": Entry("BeitForImageClassification", images(), {**VIT, "use_relative_position_bias": True,
        "layer_scale_init_value": 0.1}),
    "data2vec-vision": Entry("Data2VecVisionForImageClassification", images(), {**VIT,
        "use_shared_relative_position_bias": True, "layer_scale_init_value": 0.1}),
    "dinov2": Entry("Dinov2ForImageClassification", images(), {**VIT, "mlp_ratio": 2}),
    "dinov2-swiglu": Entry("Dinov2ForImageClassification", images(), {**VIT, "mlp_ratio": 2,
        "use_swiglu_ffn": True}),
    "dinov2-registers": Entry("Dinov2WithRegistersForImageClassification", images(), {**VIT, "mlp_ratio": 2}),
    "dinov3-vit": Entry("DINOv3ViTModel", images(), VIT),
    "vit-msn": Entry("ViTMSNForImageClassification", images(), VIT),
    "swin": Entry("SwinForImageClassification", images(64), SWIN),
    "swinv2": Entry("Swinv2ForImageClassification", images(64), SWIN),
    "convnext": Entry("ConvNextForImageClassification", images(64), {"hidden_sizes": [16, 24, 32, 40], "depths": [1,
        1, 2, 1], "num_labels": 5}),
    "convnextv2": Entry("ConvNextV2ForImageClassification", images(64), {"hidden_sizes": [16, 24, 32, 40],
        "depths": [1, 1, 2, 1], "num_labels": 5}),
    "resnet": Entry("ResNetForImageClassification", images(64), RESNET),
    "regnet": Entry("RegNetForImageClassification", images(64), {"embedding_size": 16, "hidden_sizes": [16, 24, 32,
        40], "depths": [1, 1, 1, 1], "groups_width": 8, "num_labels": 5}),
    "mobilenet-v1": Entry("MobileNetV1ForImageClassification", images(64), {"depth_multiplier": 0.25,
        "num_labels": 5}),
    "mobilenet-v2": Entry("MobileNetV2ForImageClassification", images(64), {"depth_multiplier": 0.25,
        "num_labels": 5}),
    "mobilevit": Entry("MobileViTForImageClassification", images(64), {"image_size": 64, "hidden_sizes": [32, 40,
        48], "neck_hidden_sizes": [8, 16, 24, 32, 40, 48, 64], "num_labels": 5}),
    "mobilevitv2": Entry("MobileViTV2ForImageClassification", images(64), {"image_size": 64,
        "width_multiplier": 0.25, "num_labels": 5}),
    "levit": Entry("LevitForImageClassificationWithTeacher", images(64), {"image_size": 64, "hidden_sizes": [32, 48,
        64], "num_attention_heads": [2, 3, 4], "depths": [1, 1, 1], "key_dim": [8, 8, 8], "num_labels": 5}),
    "cvt": Entry("CvtForImageClassification", images(64), {"embed_dim": [16, 32, 48], "num_heads": [1, 2, 4],
        "depth": [1, 2, 3], "num_labels": 5}),
    "pvt": Entry("PvtForImageClassification", images(64), {"image_size": 64, "hidden_sizes": [16, 24, 32, 40],
        "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 4, 4], "num_labels": 5}),
    "pvt-v2": Entry("PvtV2ForImageClassification", images(64), {"image_size": 64, "hidden_sizes": [16, 24, 32, 40],
        "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 4, 4], "num_labels": 5}),
    "poolformer": Entry("PoolFormerForImageClassification", images(64), {"hidden_sizes": [16, 24, 32, 40],
        "depths": [1, 1, 1, 1], "num_labels": 5, "mlp_ratio": 2.0}),
    "focalnet": Entry("FocalNetForImageClassification", images(64), {"image_size": 64, "embed_dim": 16,
        "depths": [1, 1, 1, 1], "hidden_sizes": [16, 32, 64, 128], "num_labels": 5}),
    "hiera": Entry("HieraForImageClassification", images(64), {"image_size": [64, 64], "embed_dim": 16,
        "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8], "num_labels": 5}),
    "videomae": Entry("VideoMAEForVideoClassification", _clip, {**VIT, "num_frames": 4, "tubelet_size": 2}),
    "timesformer": Entry("TimesformerForVideoClassification", _clip, {**VIT, "num_frames": 4}),
    "vivit": Entry("VivitForVideoClassification", _clip, {**VIT, "num_frames": 4, "tubelet_size": [2, 8, 8]}),
    "vit-mae": Entry("ViTMAEForPreTraining", _masked, {**VIT, "decoder_hidden_size": 32,
        "decoder_num_attention_heads": 4, "decoder_num_hidden_layers": 2, "decoder_intermediate_size": 48,
        "mask_ratio": 0.5}),
    "bit": Entry("BitForImageClassification", images(64), {"embedding_size": 16, "hidden_sizes": [32, 32, 64, 64],
        "depths": [1, 1, 1, 1], "num_groups": 8, "num_labels": 5}),
    "efficientnet": Entry("EfficientNetForImageClassification", images(64), {"image_size": 64,
        "width_coefficient": 0.25, "depth_coefficient": 0.3, "hidden_dim": 320, "num_labels": 5}),
    "swiftformer": Entry("SwiftFormerForImageClassification", images(64), {"image_size": 64, "depths": [1, 1, 2, 1],
        "embed_dims": [16, 24, 32, 40], "mlp_ratio": 2, "num_labels": 5}),
    "textnet": Entry("TextNetForImageClassification", images(64), {"stem_out_channels": 16, "hidden_sizes": [16, 16,
        24, 32, 40], "num_labels": 5}),
    "hgnet-v2": Entry("HGNetV2ForImageClassification", images(64), {"embedding_size": 16, "stem_channels": [3, 8,
        12], "hidden_sizes": [16, 24, 32, 40], "depths": [1, 1, 1, 1], "stage_in_channels": [12, 16, 24, 32],
        "stage_mid_channels": [8, 8, 12, 16], "stage_out_channels": [16, 24, 32, 40], "stage_num_blocks": [1, 1, 1,
        1], "stage_numb_of_layers": [2, 2, 2, 2], "num_labels": 5}),
    "ijepa": Entry("IJepaForImageClassification", images(), VIT),
    "vitdet": Entry("VitDetModel", images(64), {**VIT, "image_size": 64, "pretrain_image_size": 64,
        "window_size": 3, "window_block_indices": [0], "use_relative_position_embeddings": True,
        "residual_block_indices": [1]}),
    "dinov3-convnext": Entry("DINOv3ConvNextModel", images(64), {"hidden_sizes": [16, 24, 32, 40], "depths": [1, 1,
        2, 1]}),
    "imagegpt": Entry("ImageGPTForCausalImageModeling", lambda: {"input_ids": ids(10)}, {"vocab_size": 97,
        "n_positions": 64, "n_embd": 48, "n_layer": 3, "n_head": 4, "use_cache": False}),
    "mgp-str": Entry("MgpstrForSceneTextRecognition", lambda: {"pixel_values": noise(2, 3, 16, 32)},
        {"image_size": [16, 32], "patch_size": 4, "max_token_length": 5, "num_character_labels": 10,
        "num_bpe_labels": 12, "num_wordpiece_labels": 14, "hidden_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4}, returns=("logits",)),
    "vjepa2": Entry("VJEPA2ForVideoClassification", lambda: {"pixel_values_videos": noise(2, 4, 3, 32, 32)},
        {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "crop_size": 32, "patch_size": 8,
        "frames_per_clip": 4, "tubelet_size": 2, "mlp_ratio": 2.0, "num_pooler_layers": 1, "pred_hidden_size": 24,
        "pred_num_attention_heads": 4, "pred_num_hidden_layers": 1, "num_labels": 5}),
    "aimv2-vision": Entry("Aimv2VisionModel", images(), {**VIT, "mlp_ratio": 2.0}),
    "mlcd": Entry("MLCDVisionModel", images(), VIT),
}  # fmt: skip
