"""The five models whose latency is predicted, with random weights: times depend on shapes alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision_operators import define

MODELS = ("resnet50", "mobilenet_v3_large", "efficientnet_b0", "deit_tiny", "minilm")
TOKENS = 128


class SentenceEncoder(nn.Module):
    """A BERT with mean pooling over tokens, in the sizes of all-MiniLM-L6-v2."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        config = BertConfig(
            hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
        )
        self.bert = BertModel(config, add_pooling_layer=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """``[N, T]`` each to ``[N, 384]``."""
        tokens = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(tokens.dtype)
        return (tokens * mask).sum(1) / mask.sum(1)


def build(name: str) -> tuple[nn.Module, Any]:
    """A model in evaluation mode and one sample."""
    define()  # transformers imports torchvision, too
    torch.manual_seed(0)
    if name == "minilm":
        ids = torch.randint(0, 30522, (1, TOKENS))
        return SentenceEncoder().eval(), {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if name == "deit_tiny":
        import timm

        model = timm.create_model("deit_tiny_patch16_224", pretrained=False)
    else:
        import torchvision

        model = torchvision.models.get_model(name, weights=None)
    return model.eval(), torch.randn(1, 3, 224, 224)
