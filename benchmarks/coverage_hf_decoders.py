"""Decoders with a language-model head: one query group or several, experts, state spaces."""

from __future__ import annotations

from typing import Any

from coverage_hf_entry import VOCABULARY, Entry, tokens

SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "intermediate_size": 80, "max_position_embeddings": 64, "use_cache": False,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
EXPERTS: dict[str, Any] = {
    "num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 40,
    "output_router_logits": False, "router_jitter_noise": 0.0,
}  # fmt: skip


def _entry(model: str, **config: Any) -> Entry:
    return Entry(f"{model}ForCausalLM", tokens, {**SMALL, **config})


def _grouped(model: str, **config: Any) -> Entry:
    """Four query heads of twelve over two key and value heads."""
    return _entry(model, **{"num_key_value_heads": 2, "head_dim": 12, **config})


ENTRIES: dict[str, Entry] = {
    "gpt2": Entry("GPT2LMHeadModel", tokens, {**SMALL, "n_positions": 64, "n_embd": 48, "n_layer": 3, "n_head": 4, "n_inner": 80}),
    "gpt2-classifier": Entry("GPT2ForSequenceClassification", tokens, {
        **SMALL, "n_positions": 64, "n_embd": 48, "n_layer": 3, "n_head": 4, "num_labels": 5}),
    "gpt-neo": _entry("GPTNeo", num_hidden_layers=4, window_size=4, attention_types=[[["global", "local"], 2]]),
    "gpt-neox": _entry("GPTNeoX", rotary_pct=0.5),
    "gptj": _entry("GPTJ", n_positions=64, n_embd=48, n_layer=3, n_head=4, rotary_dim=8, n_inner=80),
    "gpt-bigcode": _entry("GPTBigCode", n_positions=64, n_embd=48, n_layer=3, n_head=4, n_inner=80),
    "codegen": _entry("CodeGen", n_positions=64, n_ctx=64, n_embd=48, n_layer=3, n_head=4, rotary_dim=8, n_inner=80),
    "opt": _entry("OPT", ffn_dim=80, word_embed_proj_dim=24),
    "bloom": _entry("Bloom", n_layer=3, n_head=4),
    "llama": _grouped("Llama"),
    "llama-tied": _grouped("Llama", tie_word_embeddings=True),
    "mistral": _grouped("Mistral", sliding_window=6),
    "qwen2": _grouped("Qwen2"),
    "qwen3": _grouped("Qwen3"),
    "gemma": _grouped("Gemma"),
    "gemma2": _grouped("Gemma2", sliding_window=6, query_pre_attn_scalar=12),
    "gemma3": _grouped("Gemma3", sliding_window=6, query_pre_attn_scalar=12),
    "phi": _entry("Phi", num_key_value_heads=2),
    "phi3": _grouped("Phi3"),
    "olmo": _grouped("Olmo"),
    "olmo2": _grouped("Olmo2"),
    "falcon": _entry("Falcon", ffn_hidden_size=80, num_kv_heads=2, new_decoder_architecture=True),
    "falcon-7b": _entry("Falcon", ffn_hidden_size=80, multi_query=True, parallel_attn=True),
    "mixtral": _grouped("Mixtral", **EXPERTS),
    "qwen2-moe": _grouped("Qwen2Moe", **EXPERTS, shared_expert_intermediate_size=56, decoder_sparse_step=1),
    "qwen3-moe": _grouped("Qwen3Moe", **EXPERTS, decoder_sparse_step=1),
    "olmoe": _grouped("Olmoe", **EXPERTS),
    "mamba": _entry("Mamba", state_size=8, conv_kernel=4, expand=2, time_step_rank=6),
    "mamba2": _entry("Mamba2", state_size=8, conv_kernel=4, expand=2, n_groups=2, num_heads=8, head_dim=12, chunk_size=8),
    "granite": _grouped("Granite", attention_multiplier=12**-0.5),
    "cohere": _grouped("Cohere"),
    "cohere2": _grouped("Cohere2", sliding_window=6),
    "stablelm": _entry("StableLm", num_key_value_heads=2, partial_rotary_factor=0.5, rope_parameters={"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}),
    "starcoder2": _grouped("Starcoder2"),
    "smollm3": _grouped("SmolLM3"),
    "nemotron": _grouped("Nemotron"),
    "persimmon": _entry("Persimmon"),
    "mpt": _entry("Mpt", d_model=48, n_heads=4, n_layers=3, max_seq_len=64, expansion_ratio=2),
    "xglm": _entry("XGLM", d_model=48, num_layers=3, attention_heads=4, ffn_dim=80),
    "biogpt": _entry("BioGpt"),
    "glm": _grouped("Glm"),
    "glm4": _grouped("Glm4"),
    "helium": _grouped("Helium"),
    "deepseek-v2": _entry("DeepseekV2", **EXPERTS, num_key_value_heads=4, n_routed_experts=4, n_shared_experts=1,
                          kv_lora_rank=16, q_lora_rank=20, qk_rope_head_dim=8, qk_nope_head_dim=12, v_head_dim=12,
                          n_group=1, topk_group=1, first_k_dense_replace=1),
    "deepseek-v3": _entry("DeepseekV3", **EXPERTS, num_key_value_heads=4, n_routed_experts=4, n_shared_experts=1,
                          kv_lora_rank=16, q_lora_rank=20, qk_rope_head_dim=8, qk_nope_head_dim=12, v_head_dim=12,
                          n_group=2, topk_group=1, first_k_dense_replace=1),
    "gpt-oss": _grouped("GptOss", **EXPERTS, sliding_window=6),
    "granite-moe": _grouped("GraniteMoe", **EXPERTS),
    "phimoe": _grouped("Phimoe", **EXPERTS),
    "lfm2": _grouped("Lfm2", layer_types=["conv", "full_attention", "conv"], block_auto_adjust_ff_dim=False),
}  # fmt: skip
