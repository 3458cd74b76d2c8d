"""Text encoders with a classifier, or a language-model head tied to the embedding."""

from __future__ import annotations

from typing import Any

from coverage_hf_entry import VOCABULARY, Entry, ids, mask, noise, tokens, typed

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
        position_biased_input=False, position_buckets=16, norm_rel_ebd="layer_norm", share_att_key=True,
        pooler_hidden_size=48),
    "mpnet": _entry("MPNetForSequenceClassification"),
    "modernbert": _entry("ModernBertForSequenceClassification", global_attn_every_n_layers=2, local_attention=8,
        pad_token_id=0, eos_token_id=1, bos_token_id=1, cls_token_id=1, sep_token_id=1),
    "mobilebert": _entry("MobileBertForSequenceClassification", typed, embedding_size=24, intra_bottleneck_size=32,
        num_feedforward_networks=2),
    "squeezebert": _entry("SqueezeBertForSequenceClassification", typed, embedding_size=48),
    "convbert": _entry("ConvBertForSequenceClassification", typed, embedding_size=48, head_ratio=2),
    "layoutlm": _entry("LayoutLMForTokenClassification", _boxes, max_2d_position_embeddings=128),
    "longformer": _entry("LongformerForSequenceClassification", lambda: {"input_ids": ids(16),
        "attention_mask": mask(16, 0)}, attention_window=[8, 8, 8]),
    "ernie": _entry("ErnieForSequenceClassification", typed),
    "rembert": _entry("RemBertForSequenceClassification", typed, input_embedding_size=24, output_embedding_size=24),
    "megatron-bert": _entry("MegatronBertForSequenceClassification", typed),
    "roformer": _entry("RoFormerForSequenceClassification", typed, embedding_size=48),
    "nystromformer": _entry("NystromformerForSequenceClassification", lambda: {"input_ids": ids()}, num_landmarks=5,
        segment_means_seq_len=10),
    "fnet": _entry("FNetForSequenceClassification", lambda: {"input_ids": ids()}),
    "esm": _entry("EsmForSequenceClassification", pad_token_id=1, mask_token_id=2, position_embedding_type="rotary",
        token_dropout=False),
    "data2vec-text": _entry("Data2VecTextForSequenceClassification"),
    "xlnet": Entry("XLNetForSequenceClassification", tokens, {"vocab_size": VOCABULARY, "d_model": 48, "n_layer": 3,
        "n_head": 4, "d_inner": 80, "use_mems_eval": False, "num_labels": 5}),
    "big-bird": _entry("BigBirdForSequenceClassification", typed, attention_type="original_full"),
    "funnel": Entry("FunnelForSequenceClassification", tokens, {"vocab_size": VOCABULARY, "block_sizes": [1, 1, 1],
        "d_model": 48, "n_head": 4, "d_head": 12, "d_inner": 80, "num_labels": 5}),
    "nomic-bert": _entry("NomicBertForSequenceClassification", typed, n_embd=48, n_layer=3, n_head=4, n_inner=80),
    "eurobert": _entry("EuroBertForSequenceClassification", num_key_value_heads=2, pad_token_id=0),
    "perceiver-lm": Entry("PerceiverForMaskedLM", lambda: {"inputs": ids(12), "attention_mask": mask(12)},
        {"vocab_size": VOCABULARY, "d_model": 48, "d_latents": 64, "num_latents": 6,
        "num_self_attends_per_block": 2, "num_self_attention_heads": 4, "num_cross_attention_heads": 4,
        "qk_channels": 32, "v_channels": 64, "max_position_embeddings": 12}),
    "xlm": Entry("XLMForSequenceClassification", tokens, {"vocab_size": VOCABULARY, "emb_dim": 48, "n_layers": 3,
        "n_heads": 4, "max_position_embeddings": 64, "num_labels": 5, "pad_index": 0}),
    "flaubert": Entry("FlaubertForSequenceClassification", tokens, {"vocab_size": VOCABULARY, "emb_dim": 48,
        "n_layers": 3, "n_heads": 4, "max_position_embeddings": 64, "num_labels": 5, "pad_index": 0}),
    "xmod": _entry("XmodForSequenceClassification", languages=["en_XX", "de_DE"], default_language="en_XX",
        adapter_reduction_factor=4),
    "roberta-prelayernorm": _entry("RobertaPreLayerNormForSequenceClassification"),
    "splinter": _entry("SplinterForQuestionAnswering", typed),
    "canine": _entry("CanineForSequenceClassification", lambda: {"input_ids": ids(16), "attention_mask": mask(16)},
        downsampling_rate=2, local_transformer_stride=8, num_hash_buckets=32, num_hash_functions=4),
    "luke": _entry("LukeForSequenceClassification", entity_vocab_size=20, entity_emb_size=24),
    "lilt": _entry("LiltForTokenClassification", _boxes, max_2d_position_embeddings=128, channel_shrink_ratio=2),
    "bros": _entry("BrosForTokenClassification", lambda: {**tokens(), "bbox": noise(2, 10, 4).sigmoid()},
        hidden_size=64),
    "layoutlmv3": _entry("LayoutLMv3ForTokenClassification", lambda: {**_boxes(), "pixel_values": noise(2, 3, 32,
        32)}, max_2d_position_embeddings=128, coordinate_size=8, shape_size=8, input_size=32, patch_size=8,
        rel_pos_bins=8, rel_2d_pos_bins=8),
    "markuplm": _entry("MarkupLMForTokenClassification", lambda: {**typed(), "xpath_tags_seq": ids(10, seed=6)[...,
        None].repeat(1, 1, 5) % 20, "xpath_subs_seq": ids(10, seed=7)[..., None].repeat(1, 1, 5) % 20}, max_depth=5,
        xpath_unit_hidden_size=8, max_xpath_tag_unit_embeddings=24, max_xpath_subs_unit_embeddings=24,
        tag_pad_id=20, subs_pad_id=20),
    "ibert": _entry("IBertForSequenceClassification", quant_mode=False),
    "jina-v3": _entry("JinaEmbeddingsV3ForSequenceClassification"),
    "big-bird-sparse": _entry("BigBirdForSequenceClassification", lambda: {"input_ids": ids(32),
        "attention_mask": mask(32)}, attention_type="block_sparse", block_size=4, num_random_blocks=1),
    "visual-bert": _entry("VisualBertForQuestionAnswering", lambda: {**typed(), "visual_embeds": noise(2, 5, 20),
        "visual_attention_mask": mask(5, 0), "visual_token_type_ids": mask(5, 0)}, visual_embedding_dim=20),
    "lxmert": Entry("LxmertForQuestionAnswering", lambda: {**typed(), "visual_feats": noise(2, 6, 20),
        "visual_pos": noise(2, 6, 4).sigmoid()}, {**SMALL, "num_qa_labels": 5, "visual_feat_dim": 20, "l_layers": 2,
        "x_layers": 2, "r_layers": 2}),
    "tapas": _entry("TapasForQuestionAnswering", lambda: {**tokens(), "token_type_ids": ids(10, seed=9)[...,
        None].repeat(1, 1, 7) % 3}, type_vocab_sizes=[3, 3, 3, 3, 3, 3, 3]),
    "reformer": Entry("ReformerForSequenceClassification", lambda: {"input_ids": ids(16), "attention_mask": mask(16,
        0)}, {"vocab_size": VOCABULARY, "hidden_size": 48, "num_attention_heads": 4, "attention_head_size": 12,
        "feed_forward_size": 80, "attn_layers": ["local", "local", "local"], "axial_pos_shape": [4, 4],
        "axial_pos_embds_dim": [16, 32], "max_position_embeddings": 16, "local_attn_chunk_length": 4,
        "is_decoder": False, "num_labels": 5}),
}  # fmt: skip
