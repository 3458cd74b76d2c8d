"""Text encoders with a classifier, or a language-model head tied to the embedding."""

from __future__ import annotations

from typing import Any

from coverage_hf_entry import VOCABULARY, Entry, ids, mask, tokens, typed

SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "intermediate_size": 80, "max_position_embeddings": 64, "num_labels": 5,
}  # fmt: skip


def _boxes() -> dict[str, Any]:
    boxes = ids(10, seed=5)[..., None].repeat(1, 1, 4).sort(-1).values
    return {**tokens(), "bbox": boxes}


def _entry(model: str, inputs: Any = tokens, **config: Any) -> Entry:
    return Entry(model, inputs, {**SMALL, **config})


ENTRIES: dict[str, Entry] = {
    "bert": _entry("BertForSequenceClassification", typed),
    "bert-lm": _entry("BertForMaskedLM", typed),
    "roberta": _entry("RobertaForSequenceClassification"),
    "xlm-roberta": _entry("XLMRobertaForTokenClassification"),
    "camembert": _entry("CamembertForMaskedLM"),
    "albert": _entry("AlbertForSequenceClassification", typed, embedding_size=24),
    "distilbert": _entry("DistilBertForSequenceClassification", dim=48, n_layers=3, n_heads=4, hidden_dim=80),
    "electra": _entry("ElectraForSequenceClassification", typed, embedding_size=24),
    "deberta": _entry("DebertaForSequenceClassification", relative_attention=True, pos_att_type=["p2c", "c2p"],
                      position_biased_input=False, max_relative_positions=-1, pooler_hidden_size=48),
    "deberta-v2": _entry("DebertaV2ForSequenceClassification", relative_attention=True, pos_att_type=["p2c", "c2p"],
                         position_biased_input=False, position_buckets=16, norm_rel_ebd="layer_norm",
                         share_att_key=True, pooler_hidden_size=48),
    "mpnet": _entry("MPNetForSequenceClassification"),
    "modernbert": _entry("ModernBertForSequenceClassification", global_attn_every_n_layers=2, local_attention=8,
                         pad_token_id=0, eos_token_id=1, bos_token_id=1, cls_token_id=1, sep_token_id=1),
    "mobilebert": _entry("MobileBertForSequenceClassification", typed, embedding_size=24,
                         intra_bottleneck_size=32, num_feedforward_networks=2),
    "squeezebert": _entry("SqueezeBertForSequenceClassification", typed, embedding_size=48),
    "convbert": _entry("ConvBertForSequenceClassification", typed, embedding_size=48, head_ratio=2),
    "layoutlm": _entry("LayoutLMForTokenClassification", _boxes, max_2d_position_embeddings=128),
    "longformer": _entry("LongformerForSequenceClassification", lambda: {"input_ids": ids(16), "attention_mask": mask(16, 0)},
                         attention_window=[8, 8, 8]),
    "ernie": _entry("ErnieForSequenceClassification", typed),
    "rembert": _entry("RemBertForSequenceClassification", typed, input_embedding_size=24, output_embedding_size=24),
    "megatron-bert": _entry("MegatronBertForSequenceClassification", typed),
    "roformer": _entry("RoFormerForSequenceClassification", typed, embedding_size=48),
    "nystromformer": _entry("NystromformerForSequenceClassification", lambda: {"input_ids": ids()}, num_landmarks=5, segment_means_seq_len=10),
    "fnet": _entry("FNetForSequenceClassification", lambda: {"input_ids": ids()}),
    "esm": _entry("EsmForSequenceClassification", pad_token_id=1, mask_token_id=2, position_embedding_type="rotary",
                  token_dropout=False),
    "data2vec-text": _entry("Data2VecTextForSequenceClassification"),
    "xlnet": Entry("XLNetForSequenceClassification", tokens, {
        "vocab_size": VOCABULARY, "d_model": 48, "n_layer": 3, "n_head": 4, "d_inner": 80, "use_mems_eval": False, "num_labels": 5}),
    "big-bird": _entry("BigBirdForSequenceClassification", typed, attention_type="original_full"),
    "funnel": Entry("FunnelForSequenceClassification", tokens, {
        "vocab_size": VOCABULARY, "block_sizes": [1, 1, 1], "d_model": 48, "n_head": 4, "d_head": 12, "d_inner": 80,
        "num_labels": 5}),
    "nomic-bert": _entry("NomicBertForSequenceClassification", typed, n_embd=48, n_layer=3, n_head=4, n_inner=80),
    "eurobert": _entry("EuroBertForSequenceClassification", num_key_value_heads=2, pad_token_id=0),
    "perceiver-lm": Entry("PerceiverForMaskedLM", lambda: {"inputs": ids(12), "attention_mask": mask(12)}, {
        "vocab_size": VOCABULARY, "d_model": 48, "d_latents": 64, "num_latents": 6, "num_self_attends_per_block": 2,
        "num_self_attention_heads": 4, "num_cross_attention_heads": 4, "qk_channels": 32, "v_channels": 64,
        "max_position_embeddings": 12}),
}  # fmt: skip
