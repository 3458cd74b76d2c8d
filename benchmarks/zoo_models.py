"""The 59 models of the zoo: how they are built, and how their weights are drawn."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

TORCHVISION = """
resnet18 resnext50_32x4d mobilenet_v2 mobilenet_v3_small efficientnet_b0 convnext_tiny densenet121 shufflenet_v2_x1_0
swin_t vit_b_16 regnet_y_400mf googlenet squeezenet1_1 mnasnet0_5 vgg11_bn maxvit_t
""".split()
TIMM = """
resnet18 vit_tiny_patch16_224 deit_tiny_patch16_224 swin_tiny_patch4_window7_224 convnext_atto mobilevit_xxs repvgg_a0
ghostnet_100 hrnet_w18_small poolformer_s12 mixer_s16_224 resmlp_12_224 levit_128s edgenext_xx_small fastvit_t8
mobileone_s0 mobilenetv4_conv_small tf_efficientnet_b0 xcit_nano_12_p16_224 res2net50_26w_4s skresnet18 eca_nfnet_l0
resnest14d efficientformerv2_s0 beit_base_patch16_224 eva02_tiny_patch14_224 dla34 cspresnet50 gernet_s dpn48b
rexnet_100 lcnet_050 tinynet_a regnetx_002 efficientvit_b0 repvit_m0_9 nest_tiny pit_ti_224 tnt_s_legacy_patch16_224
coat_tiny crossvit_9_240 volo_d1_224 focalnet_tiny_srf inception_v3
""".split()
MODELS = [f"torchvision:{name}" for name in TORCHVISION] + [f"timm:{name}" for name in TIMM]

_QUERIES_AND_KEYS = re.compile(
    r"(^|[._])(qkv|qk|kv|q|k|query|key|to_q|to_k|q_proj|k_proj|in_proj)[._]weight$"
)


def build(name: str) -> tuple[nn.Module, Tensor]:
    """A model with random weights, in evaluation mode, and one image of the size it takes."""
    torch.manual_seed(0)
    source, _, short = name.partition(":")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if source == "torchvision":
            import torchvision

            model, size = torchvision.models.get_model(short, weights=None), 224
        else:
            import timm

            model = timm.create_model(short, pretrained=False)
            size = model.default_cfg["input_size"][-1]
    randomise(model)
    return model.eval(), torch.randn(1, 3, size, size)


def randomise(model: nn.Module) -> None:
    """Draws what initialisation leaves at zeros and ones, and amplifies queries and keys.

    A fresh network has norm statistics of zero and one, biases of zero and layer scales of 1e-6: cutting the wrong
    position of these would not show. Small queries and keys give an even softmax, which hides a wrong scale.
    """
    with torch.no_grad():
        for name, tensor in model.state_dict(keep_vars=True).items():
            if not tensor.is_floating_point():
                continue
            vector = sum(n > 1 for n in tensor.shape) <= 1
            if name.endswith("running_mean"):
                tensor.normal_(0.0, 0.1)
            elif name.endswith("running_var"):
                tensor.uniform_(0.8, 1.25)
            elif not isinstance(tensor, nn.Parameter):
                continue  # position indices and the like hold what they hold
            elif name.endswith("bias") and vector:
                tensor.normal_(0.0, 0.1)
            elif vector:
                tensor.uniform_(0.8, 1.25)
            elif bool((tensor == tensor.flatten()[0]).all()):
                tensor.normal_(0.0, 0.05)  # position tables and classifiers that start at zero
            elif _QUERIES_AND_KEYS.search(name):
                tensor.mul_(3.0)


def settle_statistics(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Gives every batch norm the statistics that its inputs have, each a little off, in one forward pass.

    With statistics that have nothing to do with the activations a deep network grows or dies exponentially, its
    attention takes one position outright, and a wrong cut hides behind that or behind the rounding. A cut moves the
    means, so their square counts as variance, and no channel has much less of it than the others.
    """

    def settle(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        x = given[0].float()
        if layer.running_var is None or not x.numel():
            return
        variance, mean = torch.var_mean(x, [i for i in range(x.dim()) if i != 1], correction=0)
        variance = variance + mean.square()
        variance = variance.clamp_min(0.5 * float(x.square().mean()) + 1e-6)
        variance = variance * torch.empty_like(variance).uniform_(0.8, 1.25)
        for statistic, value in (
            (layer.running_var, variance),
            (layer.running_mean, mean + 0.1 * variance.sqrt() * torch.randn_like(mean)),
        ):
            assert isinstance(statistic, Tensor)
            statistic.copy_(value)

    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    hooks = [m.register_forward_pre_hook(settle) for m in norms]
    with torch.no_grad():
        if norms:
            model(*args, **kwargs)
    for hook in hooks:
        hook.remove()


_NORMS = re.compile(r"(^|[._])(q|k|query|key)_?(norm|layernorm|ln)$")
MOST_SPREAD = 3.0


def settle_attention(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Weakens norms of queries and keys where the logits spread over more than a softmax tells apart.

    Where no scale follows such norms, weights around one make logits as wide as the root of the head size: each
    query looks at one key outright, which hides a wrong cut and amplifies rounding from layer to layer.
    """
    seen: list[nn.Module] = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is nn.functional.scaled_dot_product_attention and len(args) > 1:
                query, key = args[0].float(), args[1].float()
                scale = (kwargs or {}).get("scale") or query.shape[-1] ** -0.5
                spread = query.std() * key.std() * query.shape[-1] ** 0.5 * scale
                for norm in seen:
                    norm.weight.mul_(torch.sqrt(MOST_SPREAD / spread.clamp_min(MOST_SPREAD)))
                seen.clear()
            return func(*args, **(kwargs or {}))

    norms = [
        m for n, m in model.named_modules() if _NORMS.search(n) and getattr(m, "weight", None) is not None
    ]
    hooks = [m.register_forward_pre_hook(lambda layer, given: seen.append(layer)) for m in norms]
    with torch.no_grad():
        if norms:
            with Watch():
                model(*args, **kwargs)
    for hook in hooks:
        hook.remove()
