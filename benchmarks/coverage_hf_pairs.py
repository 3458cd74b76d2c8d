"""Encoders with decoders, speech, and models of two modalities."""

from __future__ import annotations

from typing import Any

import torch
from coverage_hf_entry import VOCABULARY, Entry, ids, images, mask, noise, pair, tokens, waves

PAIR: dict[str, Any] = {
    "vocab_size": VOCABULARY, "d_model": 48, "encoder_layers": 3, "decoder_layers": 3, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 80, "decoder_ffn_dim": 64, "max_position_embeddings": 64,
    "use_cache": False, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
    "forced_eos_token_id": None,
}  # fmt: skip
LOGITS, SCORES = ("logits",), ("logits_per_image", "logits_per_text")
T5: dict[str, Any] = {
    "vocab_size": VOCABULARY, "d_model": 48, "d_kv": 12, "d_ff": 80, "num_layers": 3, "num_decoder_layers": 3,
    "num_heads": 4, "use_cache": False, "relative_attention_num_buckets": 8, "pad_token_id": 0,
    "decoder_start_token_id": 0,
}  # fmt: skip
SPEECH: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "intermediate_size": 80, "conv_dim": [16, 24, 24], "conv_stride": [5, 4, 2], "conv_kernel": [10, 8, 4],
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "num_labels": 5, "classifier_proj_size": 20,
    "mask_time_prob": 0.0, "mask_feature_prob": 0.0,
}  # fmt: skip
TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "intermediate_size": 80, "max_position_embeddings": 64, "projection_dim": 20, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
SIGHT: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 56, "image_size": 32,
    "patch_size": 8, "projection_dim": 20,
}  # fmt: skip


def _both() -> dict[str, Any]:
    return {**tokens(), **images()()}


def _spectrum() -> dict[str, Any]:
    return {"input_features": noise(2, 16, 40), "decoder_input_ids": ids(7)}


def _answers() -> dict[str, Any]:
    return {**_both(), "pixel_mask": torch.ones(2, 32, 32, dtype=torch.long)}


ENTRIES: dict[str, Entry] = {
    "t5": Entry("T5ForConditionalGeneration", pair, T5, returns=LOGITS, lifted=False),
    "t5-gated": Entry("T5ForConditionalGeneration", pair, {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}, returns=LOGITS, lifted=False),
    "t5-encoder": Entry("T5EncoderModel", tokens, T5, lifted=False),
    "umt5": Entry("UMT5ForConditionalGeneration", pair, T5, returns=LOGITS, lifted=False),
    "bart": Entry("BartForConditionalGeneration", pair, PAIR),
    "bart-classifier": Entry("BartForSequenceClassification",
                             lambda: {"input_ids": torch.cat([ids(), torch.full((2, 1), 2)], 1), "attention_mask": mask(11, 0)},
                             {**PAIR, "num_labels": 5}),
    "bart-logits": Entry("BartForConditionalGeneration", pair, PAIR, returns=LOGITS),
    "mbart": Entry("MBartForConditionalGeneration", pair, PAIR, returns=LOGITS),
    "marian": Entry("MarianMTModel", pair, PAIR, returns=LOGITS),
    "pegasus": Entry("PegasusForConditionalGeneration", pair, PAIR, returns=LOGITS),
    "m2m-100": Entry("M2M100ForConditionalGeneration", pair, PAIR, returns=LOGITS),
    "whisper": Entry("WhisperForConditionalGeneration", _spectrum, {
        **PAIR, "num_mel_bins": 16, "max_source_positions": 20, "max_target_positions": 16}, returns=LOGITS),
    "wav2vec2": Entry("Wav2Vec2ForCTC", waves(), SPEECH),
    "wav2vec2-large": Entry("Wav2Vec2ForSequenceClassification", waves(), {
        **SPEECH, "feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}),
    "hubert": Entry("HubertForCTC", waves(), SPEECH),
    "wavlm": Entry("WavLMForSequenceClassification", waves(), {**SPEECH, "num_buckets": 16, "max_bucket_distance": 20}),
    "data2vec-audio": Entry("Data2VecAudioForCTC", waves(), {**SPEECH, "num_conv_pos_embeddings": 3}),
    "ast": Entry("ASTForAudioClassification", lambda: {"input_values": noise(2, 24, 16)}, {
        "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 80, "patch_size": 8,
        "frequency_stride": 6, "time_stride": 6, "max_length": 24, "num_mel_bins": 16, "num_labels": 5}),
    "clip": Entry("CLIPModel", _both, {"text_config": TEXT, "vision_config": SIGHT, "projection_dim": 20}),
    "clip-scores": Entry("CLIPModel", _both, {"text_config": TEXT, "vision_config": SIGHT, "projection_dim": 20}, returns=SCORES),
    "siglip": Entry("SiglipModel", _both, {"text_config": {**TEXT, "projection_size": 32}, "vision_config": SIGHT}, returns=SCORES),
    "blip": Entry("BlipForConditionalGeneration", _both, {
        "text_config": {**TEXT, "encoder_hidden_size": 32, "sep_token_id": 2, "use_cache": False}, "vision_config": SIGHT,
        "projection_dim": 20}, returns=LOGITS),
    "blip-match": Entry("BlipForImageTextRetrieval", _both, {
        "text_config": {**TEXT, "encoder_hidden_size": 32, "sep_token_id": 2, "use_cache": False}, "vision_config": SIGHT,
        "projection_dim": 20, "image_text_hidden_size": 20}, returns=("itm_score",)),
    "vilt": Entry("ViltForQuestionAnswering", _answers, {
        **TEXT, "image_size": 32, "patch_size": 8, "num_labels": 5, "max_image_length": 16}),
    "chinese-clip": Entry("ChineseCLIPModel", _both, {"text_config": TEXT, "vision_config": SIGHT, "projection_dim": 20}, returns=SCORES),
}  # fmt: skip
