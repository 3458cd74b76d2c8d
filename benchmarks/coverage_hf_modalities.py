"""Images or sound with text."""

from __future__ import annotations

from typing import Any

import torch
from coverage_hf_entry import TEXT, VOCABULARY, Entry, ids, images, mask, noise, tokens
from coverage_hf_pairs import LOGITS, PAIR

SCORES = ("logits_per_image", "logits_per_text")
SIGHT: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 56, "image_size": 32,
    "patch_size": 8, "projection_dim": 20,
}  # fmt: skip


def _both() -> dict[str, Any]:
    return {**tokens(), **images()()}


def _pixels() -> dict[str, Any]:
    return {**_both(), "pixel_mask": torch.ones(2, 32, 32, dtype=torch.long)}


def _told(count: int) -> dict[str, Any]:
    """Text that begins with places for the image's ``count`` tokens."""
    text = torch.cat([torch.full((2, count), 95), ids(6) % 95], 1)
    return {"input_ids": text, "attention_mask": mask(count + 6, 0), **images()()}


ENTRIES: dict[str, Entry] = {
    "clip": Entry("CLIPModel", _both, {"text_config": TEXT, "vision_config": SIGHT, "projection_dim": 20}),
    "clip-scores": Entry("CLIPModel", _both, {"text_config": TEXT, "vision_config": SIGHT, "projection_dim": 20},
        returns=SCORES),
    "siglip": Entry("SiglipModel", _both, {"text_config": {**TEXT, "projection_size": 32}, "vision_config": SIGHT},
        returns=SCORES),
    "blip": Entry("BlipForConditionalGeneration", _both, {"text_config": {**TEXT, "encoder_hidden_size": 32,
        "sep_token_id": 2, "use_cache": False}, "vision_config": SIGHT, "projection_dim": 20}, returns=LOGITS),
    "blip-match": Entry("BlipForImageTextRetrieval", _both, {"text_config": {**TEXT, "encoder_hidden_size": 32,
        "sep_token_id": 2, "use_cache": False}, "vision_config": SIGHT, "projection_dim": 20,
        "image_text_hidden_size": 20}, returns=("itm_score",)),
    "vilt": Entry("ViltForQuestionAnswering", _pixels, {**TEXT, "image_size": 32, "patch_size": 8, "num_labels": 5,
        "max_image_length": 16}),
    "chinese-clip": Entry("ChineseCLIPModel", _both, {"text_config": TEXT, "vision_config": SIGHT,
        "projection_dim": 20}, returns=SCORES),
    "clap": Entry("ClapModel", lambda: {**tokens(), "input_features": noise(2, 1, 64, 64)}, {"text_config": TEXT,
        "audio_config": {"num_mel_bins": 64, "spec_size": 64, "window_size": 4, "patch_embeds_hidden_size": 16,
        "hidden_size": 64, "depths": [1, 1, 1], "num_attention_heads": [2, 4, 8], "num_classes": 5, "patch_size": 4,
        "patch_stride": [4, 4], "projection_dim": 20, "enable_fusion": False}, "projection_dim": 20},
        returns=("logits_per_audio",)),
    "trocr": Entry("VisionEncoderDecoderModel", lambda: {**images()(), "decoder_input_ids": ids(7)},
        {"encoder": {"model_type": "vit", **SIGHT}, "decoder": {"model_type": "trocr", **PAIR}}, returns=LOGITS),
    "donut": Entry("VisionEncoderDecoderModel", lambda: {**images(64)(), "decoder_input_ids": ids(7)},
        {"encoder": {"model_type": "donut-swin", "image_size": 64, "patch_size": 4, "embed_dim": 16, "depths": [1,
        1], "num_heads": [2, 4], "window_size": 4}, "decoder": {"model_type": "mbart", **PAIR, "d_model": 32,
        "is_decoder": True, "add_cross_attention": True}}, returns=LOGITS),
    "vision-text": Entry("VisionTextDualEncoderModel", _both, {"vision_config": {"model_type": "vit", **SIGHT},
        "text_config": {"model_type": "bert", **TEXT}, "projection_dim": 20}, returns=SCORES),
    "altclip": Entry("AltCLIPModel", _both, {"text_config": {**TEXT, "project_dim": 20}, "vision_config": SIGHT,
        "projection_dim": 20}, returns=SCORES),
    "clipseg": Entry("CLIPSegForImageSegmentation", _both, {"text_config": TEXT, "vision_config": SIGHT,
        "projection_dim": 20, "extract_layers": [0, 1, 2], "reduce_dim": 16, "decoder_num_attention_heads": 4,
        "decoder_intermediate_size": 24}, returns=LOGITS),
    "owlvit": Entry("OwlViTForObjectDetection", lambda: {"input_ids": ids(), "attention_mask": mask(),
        **images()()}, {"text_config": TEXT, "vision_config": SIGHT, "projection_dim": 48}, returns=("logits",
        "pred_boxes")),
    "groupvit": Entry("GroupViTModel", _both, {"text_config": TEXT, "vision_config": {**SIGHT, "depths": [1, 1, 1],
        "num_group_tokens": [8, 4, 0], "num_output_groups": [8, 4, 0]}, "projection_dim": 20,
        "projection_intermediate_dim": 40}, returns=SCORES),
    "siglip2": Entry("Siglip2Model", lambda: {**tokens(), "pixel_values": noise(2, 16, 192),
        "pixel_attention_mask": mask(16, 3), "spatial_shapes": torch.tensor([[4, 4], [4, 3]])},
        {"text_config": {**TEXT, "projection_size": 32}, "vision_config": {**SIGHT, "num_patches": 16}},
        returns=SCORES),
    "metaclip2": Entry("MetaClip2Model", _both, {"text_config": TEXT, "vision_config": SIGHT, "projection_dim": 20},
        returns=SCORES),
    "align": Entry("AlignModel", lambda: {**tokens(), **images(64)()}, {"text_config": TEXT,
        "vision_config": {"image_size": 64, "width_coefficient": 0.25, "depth_coefficient": 0.3, "hidden_dim": 80},
        "projection_dim": 80}, returns=SCORES),
    "git": Entry("GitForCausalLM", _both, {**TEXT, "vision_config": SIGHT, "use_cache": False}, returns=LOGITS),
    "bridgetower": Entry("BridgeTowerForImageAndTextRetrieval", _both, {"hidden_size": 128,
        "num_attention_heads": 4, "num_hidden_layers": 2, "text_config": {**TEXT, "hidden_size": 128,
        "num_hidden_layers": 2}, "vision_config": {"hidden_size": 128, "num_hidden_layers": 2, "patch_size": 8,
        "image_size": 32}}, returns=LOGITS),
    "flava": Entry("FlavaModel", _both, {"text_config": TEXT, "image_config": {**SIGHT, "hidden_size": 48},
        "multimodal_config": {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 80}, "hidden_size": 48, "projection_dim": 20}, returns=("multimodal_embeddings",)),
    "blip2": Entry("Blip2ForConditionalGeneration", lambda: _told(4), {"vision_config": SIGHT,
        "qformer_config": {**TEXT, "encoder_hidden_size": 32, "cross_attention_frequency": 2},
        "text_config": {"model_type": "opt", **TEXT, "ffn_dim": 80, "word_embed_proj_dim": 48, "use_cache": False},
        "num_query_tokens": 4, "image_token_index": 95}, returns=LOGITS),
    "llava": Entry("LlavaForConditionalGeneration", lambda: _told(16),
        {"vision_config": {"model_type": "clip_vision_model", **SIGHT}, "text_config": {"model_type": "llama",
        **TEXT, "num_key_value_heads": 2, "use_cache": False}, "image_token_index": 95, "vision_feature_layer": -1},
        returns=LOGITS),
    "paligemma": Entry("PaliGemmaForConditionalGeneration", lambda: _told(16),
        {"vision_config": {"model_type": "siglip_vision_model", **SIGHT, "vision_use_head": False},
        "text_config": {"model_type": "gemma", **TEXT, "num_key_value_heads": 2, "head_dim": 12,
        "use_cache": False}, "image_token_index": 95, "projection_dim": 48}, returns=LOGITS),
    "idefics3": Entry("Idefics3ForConditionalGeneration", lambda: {**_told(4), "pixel_values": noise(2, 1, 3, 32,
        32)}, {"vision_config": {**SIGHT}, "text_config": {"model_type": "llama", **TEXT, "num_key_value_heads": 2,
        "use_cache": False}, "image_token_id": 95, "scale_factor": 2}, returns=LOGITS),
    "internvl": Entry("InternVLForConditionalGeneration", lambda: _told(4), {"vision_config": {**SIGHT,
        "image_size": [32, 32], "patch_size": [8, 8]}, "text_config": {"model_type": "qwen2", **TEXT,
        "num_key_value_heads": 2, "use_cache": False}, "image_token_id": 95, "downsample_ratio": 0.5},
        returns=LOGITS),
    "pix2struct": Entry("Pix2StructForConditionalGeneration", lambda: {"flattened_patches": torch.cat([ids(12,
        1)[..., None] % 4, ids(12, 1, 5)[..., None] % 4, noise(2, 12, 48)], -1).float(),
        "attention_mask": mask(12).float(), "decoder_input_ids": ids(7)}, {"text_config": {"vocab_size": VOCABULARY,
        "hidden_size": 48, "d_kv": 12, "d_ff": 80, "num_layers": 2, "num_heads": 4, "use_cache": False,
        "relative_attention_num_buckets": 8}, "vision_config": {"hidden_size": 48, "patch_embed_hidden_size": 48,
        "d_kv": 12, "d_ff": 80, "num_hidden_layers": 2, "num_attention_heads": 4, "seq_len": 16}}, returns=LOGITS),
    "qwen2-vl-vision": Entry("Qwen2VLForConditionalGeneration", lambda: {"hidden_states": noise(16, 24),
        "grid_thw": torch.tensor([[1, 4, 4]])}, {"vision_config": {"depth": 2, "embed_dim": 48, "num_heads": 4,
        "hidden_size": 48, "patch_size": 2, "temporal_patch_size": 2, "spatial_merge_size": 2},
        "text_config": {**TEXT, "num_key_value_heads": 2}}, part="model.visual"),
}  # fmt: skip
