"""Text encoders with decoders, which return the logits and, unless asked otherwise, the encoder's states."""

from __future__ import annotations

from typing import Any

import torch
from coverage_hf_entry import TEXT, VOCABULARY, Entry, ids, mask, pair, tokens

PAIR: dict[str, Any] = {
    "vocab_size": VOCABULARY, "d_model": 48, "encoder_layers": 3, "decoder_layers": 3, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 80, "decoder_ffn_dim": 64, "max_position_embeddings": 64,
    "use_cache": False, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
    "forced_eos_token_id": None,
}  # fmt: skip
LOGITS = ("logits",)
T5: dict[str, Any] = {
    "vocab_size": VOCABULARY, "d_model": 48, "d_kv": 12, "d_ff": 80, "num_layers": 3, "num_decoder_layers": 3,
    "num_heads": 4, "use_cache": False, "relative_attention_num_buckets": 8, "pad_token_id": 0,
    "decoder_start_token_id": 0,
}  # fmt: skip
GEMMA: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 12,
    "num_key_value_heads": 2, "intermediate_size": 80, "sliding_window": 6, "query_pre_attn_scalar": 12,
    "max_position_embeddings": 64,
}  # fmt: skip


ENTRIES: dict[str, Entry] = {
    "t5": Entry("T5ForConditionalGeneration", pair, T5, returns=LOGITS, lifted=False),
    "t5-gated": Entry("T5ForConditionalGeneration", pair, {**T5, "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False}, returns=LOGITS, lifted=False),
    "t5-encoder": Entry("T5EncoderModel", tokens, T5, lifted=False),
    "umt5": Entry("UMT5ForConditionalGeneration", pair, T5, returns=LOGITS, lifted=False),
    "bart": Entry("BartForConditionalGeneration", pair, PAIR),
    "bart-classifier": Entry("BartForSequenceClassification", lambda: {"input_ids": torch.cat([ids(), torch.full((2,
        1), 2)], 1), "attention_mask": mask(11, 0)}, {**PAIR, "num_labels": 5}),
    "bart-logits": Entry("BartForConditionalGeneration", pair, PAIR, returns=LOGITS),
    "mbart": Entry("MBartForConditionalGeneration", pair, PAIR, returns=LOGITS),
    "marian": Entry("MarianMTModel", pair, PAIR, returns=LOGITS),
    "pegasus": Entry("PegasusForConditionalGeneration", pair, PAIR, returns=LOGITS),
    "m2m-100": Entry("M2M100ForConditionalGeneration", pair, PAIR, returns=LOGITS),
    "longt5": Entry("LongT5ForConditionalGeneration", pair, {**T5, "local_radius": 4,
        "encoder_attention_type": "local"}, returns=LOGITS, lifted=False),
    "longt5-global": Entry("LongT5ForConditionalGeneration", pair, {**T5, "local_radius": 4, "global_block_size": 4,
        "encoder_attention_type": "transient-global"}, returns=LOGITS, lifted=False),
    "switch": Entry("SwitchTransformersForConditionalGeneration", pair, {**T5, "num_experts": 4,
        "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1, "expert_capacity": 16,
        "router_jitter_noise": 0.0}, returns=LOGITS, lifted=False),
    "t5gemma": Entry("T5GemmaForConditionalGeneration", pair, {"encoder": GEMMA, "decoder": {**GEMMA,
        "use_cache": False}, "vocab_size": VOCABULARY, "use_cache": False}, returns=LOGITS),
    "led": Entry("LEDForConditionalGeneration", lambda: {"input_ids": ids(16), "attention_mask": mask(16, 0),
        "decoder_input_ids": ids(7)}, {**PAIR, "max_encoder_position_embeddings": 64,
        "max_decoder_position_embeddings": 64, "attention_window": 8}, returns=LOGITS),
    "blenderbot": Entry("BlenderbotForConditionalGeneration", pair, PAIR, returns=LOGITS),
    "blenderbot-small": Entry("BlenderbotSmallForConditionalGeneration", pair, PAIR, returns=LOGITS),
    "plbart": Entry("PLBartForConditionalGeneration", pair, PAIR, returns=LOGITS),
    "mvp": Entry("MvpForConditionalGeneration", pair, PAIR, returns=LOGITS),
    "pegasus-x": Entry("PegasusXForConditionalGeneration", lambda: {"input_ids": ids(16),
        "attention_mask": mask(16), "decoder_input_ids": ids(7)}, {**PAIR, "block_size": 8, "num_global_tokens": 4},
        returns=LOGITS),
    "bigbird-pegasus": Entry("BigBirdPegasusForConditionalGeneration", pair, {**PAIR,
        "attention_type": "original_full"}, returns=LOGITS),
    "prophetnet": Entry("ProphetNetForConditionalGeneration", pair, {"vocab_size": VOCABULARY, "hidden_size": 48,
        "encoder_ffn_dim": 80, "decoder_ffn_dim": 64, "num_encoder_layers": 3, "num_decoder_layers": 3,
        "num_encoder_attention_heads": 4, "num_decoder_attention_heads": 4, "max_position_embeddings": 64,
        "use_cache": False, "num_buckets": 8, "relative_max_distance": 16}, returns=LOGITS),
    "fsmt": Entry("FSMTForConditionalGeneration", lambda: {**pair(), "decoder_attention_mask": mask(7, 0)}, {**PAIR, "langs": ["en", "de"],
        "src_vocab_size": VOCABULARY, "tgt_vocab_size": VOCABULARY}, returns=LOGITS),
    "nllb-moe": Entry("NllbMoeForConditionalGeneration", pair, {**PAIR, "num_experts": 4, "expert_capacity": 16,
        "encoder_sparse_step": 2, "decoder_sparse_step": 2, "router_z_loss_coef": 0.0}, returns=LOGITS),
    "bert-generation": Entry("BertGenerationDecoder", tokens, {**TEXT, "is_decoder": True, "use_cache": False}),
    "bert2bert": Entry("EncoderDecoderModel", pair, {"encoder": {"model_type": "bert", **TEXT},
        "decoder": {"model_type": "bert", **TEXT, "is_decoder": True, "add_cross_attention": True,
        "use_cache": False}}, returns=LOGITS),
}  # fmt: skip
