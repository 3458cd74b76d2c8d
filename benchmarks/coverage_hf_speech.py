"""Sound, and series of numbers."""

from __future__ import annotations

from typing import Any

from coverage_hf_entry import VOCABULARY, Entry, ids, mask, noise, waves
from coverage_hf_pairs import LOGITS, PAIR

SPEECH: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "intermediate_size": 80, "conv_dim": [16, 24, 24], "conv_stride": [5, 4, 2], "conv_kernel": [10, 8, 4],
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "num_labels": 5, "classifier_proj_size": 20,
    "mask_time_prob": 0.0, "mask_feature_prob": 0.0,
}  # fmt: skip


def _spectrum() -> dict[str, Any]:
    return {"input_features": noise(2, 16, 40), "decoder_input_ids": ids(7)}


ENTRIES: dict[str, Entry] = {
    "whisper": Entry("WhisperForConditionalGeneration", _spectrum, {**PAIR, "num_mel_bins": 16,
        "max_source_positions": 20, "max_target_positions": 16}, returns=LOGITS),
    "wav2vec2": Entry("Wav2Vec2ForCTC", waves(), SPEECH),
    "wav2vec2-large": Entry("Wav2Vec2ForSequenceClassification", waves(), {**SPEECH, "feat_extract_norm": "layer",
        "do_stable_layer_norm": True, "conv_bias": True}),
    "hubert": Entry("HubertForCTC", waves(), SPEECH),
    "wavlm": Entry("WavLMForSequenceClassification", waves(), {**SPEECH, "num_buckets": 16,
        "max_bucket_distance": 20}),
    "data2vec-audio": Entry("Data2VecAudioForCTC", waves(), {**SPEECH, "num_conv_pos_embeddings": 3}),
    "ast": Entry("ASTForAudioClassification", lambda: {"input_values": noise(2, 24, 16)}, {"hidden_size": 48,
        "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 80, "patch_size": 8,
        "frequency_stride": 6, "time_stride": 6, "max_length": 24, "num_mel_bins": 16, "num_labels": 5}),
    "speech-to-text": Entry("Speech2TextForConditionalGeneration", lambda: {"input_features": noise(2, 40, 16),
        "attention_mask": mask(40, 0), "decoder_input_ids": ids(7)}, {**PAIR, "input_feat_per_channel": 16,
        "input_channels": 1, "conv_channels": 24, "max_source_positions": 64, "max_target_positions": 64},
        returns=LOGITS),
    "unispeech": Entry("UniSpeechForCTC", waves(), SPEECH),
    "unispeech-sat": Entry("UniSpeechSatForSequenceClassification", waves(), SPEECH),
    "sew": Entry("SEWForCTC", waves(), {**SPEECH, "squeeze_factor": 2}),
    "sew-d": Entry("SEWDForCTC", waves(), {**SPEECH, "squeeze_factor": 2, "position_buckets": 8,
        "max_position_embeddings": 64}),
    "wav2vec2-conformer": Entry("Wav2Vec2ConformerForCTC", waves(), {**SPEECH,
        "position_embeddings_type": "relative", "conv_depthwise_kernel_size": 5}),
    "wav2vec2-conformer-rotary": Entry("Wav2Vec2ConformerForCTC", waves(), {**SPEECH,
        "position_embeddings_type": "rotary", "conv_depthwise_kernel_size": 5}),
    "wav2vec2-bert": Entry("Wav2Vec2BertForCTC", lambda: {"input_features": noise(2, 20, 16)}, {**SPEECH,
        "feature_projection_input_dim": 16, "conv_depthwise_kernel_size": 5}),
    "moonshine": Entry("MoonshineForConditionalGeneration", lambda: {"input_values": noise(2, 2000),
        "decoder_input_ids": ids(7)}, {"vocab_size": VOCABULARY, "hidden_size": 48, "intermediate_size": 80,
        "encoder_num_hidden_layers": 2, "decoder_num_hidden_layers": 2, "encoder_num_attention_heads": 4,
        "decoder_num_attention_heads": 4, "max_position_embeddings": 64, "use_cache": False}, returns=LOGITS),
    "speecht5-asr": Entry("SpeechT5ForSpeechToText", lambda: {"input_values": noise(2, 1200),
        "decoder_input_ids": ids(7)}, {**SPEECH, "encoder_layers": 2, "decoder_layers": 2,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 80, "decoder_ffn_dim": 64,
        "use_cache": False, "max_text_positions": 64, "max_speech_positions": 64,
        "encoder_max_relative_position": 10}, returns=LOGITS),
    "encodec": Entry("EncodecModel", lambda: {"hidden_states": noise(2, 1, 64)}, {"num_filters": 4,
        "hidden_size": 16, "upsampling_ratios": [4, 2], "codebook_size": 16, "codebook_dim": 16,
        "num_lstm_layers": 2, "target_bandwidths": [1.5], "sampling_rate": 4000}, part="encoder"),
    "patchtst": Entry("PatchTSTForPrediction", lambda: {"past_values": noise(2, 32, 3)}, {"num_input_channels": 3,
        "context_length": 32, "patch_length": 4, "patch_stride": 4, "num_hidden_layers": 2, "d_model": 48,
        "num_attention_heads": 4, "ffn_dim": 64, "prediction_length": 6, "do_mask_input": False},
        returns=("prediction_outputs",)),
    "patchtsmixer": Entry("PatchTSMixerForPrediction", lambda: {"past_values": noise(2, 32, 3)},
        {"num_input_channels": 3, "context_length": 32, "patch_length": 4, "patch_stride": 4, "num_layers": 2,
        "d_model": 16, "prediction_length": 6}, returns=("prediction_outputs",)),
    "decision-transformer": Entry("DecisionTransformerModel", lambda: {"states": noise(2, 5, 6), "actions": noise(2,
        5, 3), "rewards": noise(2, 5, 1), "returns_to_go": noise(2, 5, 1), "timesteps": ids(5, 1) % 20,
        "attention_mask": mask(5, 0)}, {"state_dim": 6, "act_dim": 3, "hidden_size": 48, "n_layer": 2, "n_head": 4,
        "max_ep_len": 20, "n_positions": 64, "vocab_size": 1}, returns=("state_preds", "action_preds",
        "return_preds")),
}  # fmt: skip
