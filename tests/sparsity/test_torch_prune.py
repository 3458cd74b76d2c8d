"""Masks in and out of the form that torch keeps them in."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from secateur.errors import InputError
from secateur.sparsity import apply_, count_zeros, masks_of, permanent, put_masks


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Sequential(nn.Linear(8, 3)))


def half(model):
    generator = torch.Generator().manual_seed(1)
    return {
        n: torch.rand(p.shape, generator=generator) > 0.5 for n, p in model.named_parameters() if p.dim() > 1
    }


def test_masks_go_in_and_come_out() -> None:
    model = network()
    masks = half(model)
    put_masks(model, masks)
    assert prune.is_pruned(model)
    found = masks_of(model)
    assert found.keys() == masks.keys() == {"0.weight", "2.0.weight"}
    assert all(torch.equal(found[n], masks[n]) for n in masks)


def test_masks_made_by_torch_are_read() -> None:
    model = network()
    prune.l1_unstructured(model[0], "weight", amount=0.25)
    prune.ln_structured(model[2][0], "weight", amount=2, n=1, dim=1)
    masks = masks_of(model)
    assert int((~masks["0.weight"]).sum()) == 12
    assert int((~masks["2.0.weight"]).any(0).sum()) == 2


def test_permanent_is_a_copy_with_zeros_and_the_names_of_before() -> None:
    model = network()
    names = [n for n, _ in model.named_parameters()]
    put_masks(model, half(model))
    x = torch.randn(4, 6)
    plain = permanent(model)
    assert sorted(n for n, _ in plain.named_parameters()) == sorted(names) and not prune.is_pruned(plain)
    assert prune.is_pruned(model)  # as it was
    assert torch.equal(plain(x), model(x))
    assert count_zeros(plain)["0.weight"].zeros == int((~masks_of(model)["0.weight"]).sum())
    with torch.no_grad():
        plain[0].weight.zero_()
    assert not torch.equal(plain(x), model(x))  # nothing is shared


def test_training_goes_on_under_masks() -> None:
    model = network()
    put_masks(model, half(model))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(8, 6)).square().mean().backward()
        optimizer.step()
    plain = permanent(model)
    for name, mask in masks_of(model).items():
        weight = dict(plain.named_parameters())[name]
        assert (weight[~mask] == 0).all() and (weight[mask] != 0).any()


def test_masks_applied_by_themselves() -> None:
    model = network()
    masks = half(model)
    twin = copy.deepcopy(model)
    apply_(twin, masks)
    assert torch.equal(twin[0].weight, model[0].weight * masks["0.weight"])


def test_wrong_masks_are_said() -> None:
    with pytest.raises(InputError, match=r"'7\.weight', which is no parameter"):
        put_masks(network(), {"7.weight": torch.ones(2, 2)})
    with pytest.raises(InputError, match=r"mask of '0\.weight' has shape \[2, 2\], the parameter \[8, 6\]"):
        put_masks(network(), {"0.weight": torch.ones(2, 2)})
