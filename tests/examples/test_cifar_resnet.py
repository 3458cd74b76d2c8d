"""The example networks: of the paper's sizes, with option-A shortcuts, and cut to a share of their multiply-adds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import secateur as sc
from examples.cifar_resnet import BasicBlock, resnet20, resnet56
from secateur.recipe import read_recipe, recipe_from

ROOT = Path(__file__).resolve().parents[2]


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def with_statistics(model: nn.Module) -> nn.Module:
    """Batch norms as after training: statistics, scales and shifts all differ from channel to channel."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, 0, 0.1, generator=generator)
    return model.eval()


@pytest.mark.parametrize(("build", "parameters", "layers"), [(resnet20, 0.27e6, 20), (resnet56, 0.85e6, 56)])
def test_sizes_are_those_of_the_paper(build, parameters, layers):
    model = build()
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(parameters, rel=0.01)
    assert sum(isinstance(m, (nn.Conv2d, nn.Linear)) for m in model.modules()) == layers
    assert model(images(2)).shape == (2, 10)


def test_names_are_those_of_the_weight_files():
    names = set(resnet20().state_dict())
    assert {
        "conv1.weight",
        "bn1.running_mean",
        "layer2.0.bn2.bias",
        "layer3.2.conv2.weight",
        "linear.bias",
    } <= names
    assert not any("shortcut" in n for n in names)


def test_option_a_takes_every_second_pixel_between_channels_of_zeros():
    block, x = BasicBlock(16, 32, stride=2), torch.randn(1, 16, 8, 8)
    shortcut = block.shortcut(x)
    assert shortcut.shape == (1, 32, 4, 4)
    assert torch.equal(shortcut[:, 8:24], x[:, :, ::2, ::2])
    assert not shortcut[:, :8].any() and not shortcut[:, 24:].any()


def test_resnet56_is_cut_to_a_share_of_its_multiply_adds():
    model, x = with_statistics(resnet56()), images(2)
    result = sc.prune(model, x, macs="0.47x")
    assert result.verification.max_relative_error <= 1e-4
    dense, cut = (multiply_adds(m, x) for m in (model, result.model))
    assert 0.97 * 0.47 <= cut / dense <= 0.47
    assert result.model(x).shape == (2, 10)
    assert torch.isfinite(result.model(x)).all()


def multiply_adds(model: nn.Module, x: torch.Tensor) -> int:
    """Counted while the model runs, not by the cost model that allocation used."""
    total = 0

    class Counter(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal total
            out = func(*args, **(kwargs or {}))
            if func is torch.ops.aten.convolution.default:
                total += out.numel() * args[1][0].numel()
            elif func is torch.ops.aten.addmm.default:
                total += out.numel() * args[1].shape[1]
            return out

    with torch.no_grad(), Counter():
        model(x)
    return total


def test_the_recipe_is_complete_and_understood():
    recipe = recipe_from(read_recipe(ROOT / "examples" / "cifar.yaml"))
    assert recipe.model == "examples.cifar_resnet:resnet20"
    assert {a.kind for a in recipe.budget.amounts()} == {"macs", "drop"}
