"""Heads and groups that keep units of their own, in models as people use them."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

import secateur as sc
from secateur.coupling import find_groups
from secateur.graph import trace
from secateur.surgery import cut_groups
from tests.zoo import random_free_plan


def sharpened(model: nn.Module) -> nn.Module:
    """Random biases and norms, and queries and keys four times as large."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() < 2:
                p.add_(torch.randn(p.shape) * 0.2)
            elif any(key in name for key in ("qkv", "q_proj", "k_proj", "query", "key")):
                p.mul_(4.0)
    return model.eval()


def check(model: nn.Module, inputs: Any, free: set[str], scaled: int = 0, permuted: int = 0) -> None:
    """Random plans in double precision, and pruning by default."""
    groups = find_groups(trace(sharpened(model), inputs))
    found = {param for c in groups.contexts.values() for param in c.members}
    assert all(any(name in param for param in found) for name in free)
    plan = random_free_plan(groups, 1)
    result = cut_groups(groups, plan, dtype=torch.float64)
    assert result.prepared.max_relative_error <= 1e-10 and result.verification.max_relative_error <= 1e-10
    assert not result.unfolded
    assert len(result.prepared.scaled) == scaled and (len(plan.permuted) > 0) == (permuted > 0)
    pruned = sc.prune(model, inputs, keep=0.5)
    assert pruned.verification.max_relative_error < 1e-4
    state = model.state_dict()
    assert any(plan.take(n, state[n]).shape != t.shape for n, t in state.items() if n in plan.kept)


def test_vision_transformer(timm: ModuleType) -> None:
    model = timm.models.vision_transformer.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3, num_classes=7
    )
    check(model, torch.randn(2, 3, 32, 32), {"qkv.weight", "qkv.bias", "proj.weight"}, scaled=4)


def test_residual_network_with_groups(timm: ModuleType) -> None:
    from timm.models.resnet import Bottleneck, ResNet

    model = ResNet(Bottleneck, [1, 1, 1, 1], num_classes=7, cardinality=4, base_width=16, stem_width=8)
    check(model, torch.randn(2, 3, 32, 32), {"conv1.weight", "conv2.weight", "conv3.weight"}, permuted=1)


def test_multihead_attention() -> None:
    class Cross(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(12, 12)
            self.attend = nn.MultiheadAttention(12, 3, batch_first=True)
            self.head = nn.Linear(12, 5)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            y = self.embed(y)
            return self.head(self.attend(x, y, y, need_weights=False)[0])

    check(
        Cross(),
        (torch.randn(2, 4, 12), torch.randn(2, 6, 12)),
        {"in_proj_weight", "out_proj.weight"},
        scaled=2,
    )


@pytest.mark.parametrize("kind", ["bert", "llama", "albert"])
def test_language_models(kind: str) -> None:
    transformers = pytest.importorskip("transformers", exc_type=(ImportError, RuntimeError, AttributeError))
    sizes = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
             "intermediate_size": 64}  # fmt: skip
    ids = torch.randint(0, 50, (2, 7))
    if kind == "llama":
        config = transformers.LlamaConfig(**sizes, num_key_value_heads=2)
        model = transformers.LlamaForCausalLM(config)
        check(model, {"input_ids": ids, "use_cache": False}, {"v_proj.weight", "o_proj.weight"})
    elif kind == "bert":
        model = transformers.BertModel(transformers.BertConfig(**sizes))
        check(model, ids, {"query.weight", "key.weight", "value.weight"})
    else:
        model = transformers.AlbertModel(transformers.AlbertConfig(**sizes, embedding_size=16))
        check(model, ids, {"query.weight", "value.weight"})
