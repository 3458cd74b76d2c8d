"""Zeros by pattern and method: counts by hand, the order of the methods, and what stays untouched."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from secateur.data import Data
from secateur.errors import DataError, RecipeError
from secateur.recovery import FineTune, Setting, recover_
from secateur.sparsity import (
    NM,
    Blocks,
    LargestWeights,
    SparseGPT,
    Unstructured,
    Wanda,
    compressed_bytes,
    permanent,
    put_masks,
    sparsify,
)
from secateur.task import classification
from tests.zoo import ZOO

PATTERNS = (Unstructured(0.5), NM(2, 4), NM(4, 8), Blocks(0.5, 1, 4), Blocks(0.5, 2, 2))
METHODS = (LargestWeights(), Wanda(), SparseGPT(), SparseGPT(block=3))


def correlated(rows=2000, features=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(features, features, generator=generator) * torch.linspace(0.2, 3, features)
    return torch.randn(rows, features, generator=generator) @ mixing


def test_patterns_by_hand() -> None:
    scores = torch.tensor(
        [[4.0, 3.0, 2.0, 1.0, 8.0, 7.0, 6.0, 5.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]]
    )
    assert Unstructured(0.5).keep(scores).int().tolist() == [
        [0, 0, 0, 0, 1, 1, 1, 1],
        [0, 0, 0, 0, 1, 1, 1, 1],
    ]
    assert Unstructured(0.75, rows=True).keep(scores).int().tolist() == [
        [0] * 4 + [1, 1, 0, 0],
        [0] * 6 + [1, 1],
    ]
    assert NM(2, 4).keep(scores).int().tolist() == [[1, 1, 0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0, 1, 1]]
    assert Blocks(0.5, 2, 2).keep(scores).int().tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]] * 2
    assert Blocks(0.5, 1, 4).keep(scores).int().tolist() == [[0] * 4 + [1] * 4, [0] * 4 + [1] * 4]
    assert (NM(1, 4).share, NM(4, 8).share, Blocks(0.3).share) == (0.75, 0.5, 0.3)


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_every_method_keeps_to_every_pattern(pattern, method) -> None:
    model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 8)).eval()
    before = copy.deepcopy(model.state_dict())
    x = correlated()
    found = sparsify(model, x[:2], pattern, method, [x])
    for name, mask in found.masks.items():
        weight = found.model.get_parameter(name)
        assert (weight[~mask] == 0).all() and mask.shape == weight.shape
        assert float((~mask).double().mean()) == pytest.approx(0.5, abs=0.02)
        if isinstance(pattern, NM):
            assert (mask.unflatten(1, (-1, pattern.m)).sum(2) <= pattern.n).all()
        if isinstance(pattern, Blocks):
            blocks = (
                mask.unflatten(0, (-1, pattern.height))
                .unflatten(2, (-1, pattern.width))
                .int()
                .sum(dim=(1, 3))
            )
            assert ((blocks == 0) | (blocks == pattern.height * pattern.width)).all()
    assert set(found.masks) == {"0.weight", "2.weight"} and found.sparsity == pytest.approx(0.5, abs=0.02)
    assert type(found.model) is nn.Sequential
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("pattern", [Unstructured(0.5), Unstructured(0.7), NM(2, 4)], ids=str)
def test_the_order_of_the_methods_on_what_a_layer_gives(pattern) -> None:
    """What is said of them: looking at inputs beats not looking, and making up beats leaving."""
    torch.manual_seed(0)
    model, x = nn.Linear(16, 32).eval(), correlated()
    fresh = x[1500:]
    errors = []
    for method in (LargestWeights(), Wanda(), SparseGPT()):
        found = sparsify(model, x[:2], pattern, method, [x[:1500]])
        errors.append(float((found.model(fresh) - model(fresh)).square().mean()))
        if method.needs_inputs:
            assert found.layers[0].error is not None and 0 < found.layers[0].error < 1
    assert errors[2] < 0.9 * errors[1] < 0.81 * errors[0]


def test_making_up_is_the_least_squares_answer_for_the_last_column() -> None:
    """With one weight gone per output, and that in the first column, the rest is solved exactly."""
    moments = correlated().double()
    moments = moments.T @ moments / len(moments)
    weight = torch.randn(3, 16, dtype=torch.float64)

    class First(Unstructured):
        def keep(self, scores):
            mask = torch.ones_like(scores, dtype=torch.bool)
            mask[:, 0] = False
            return mask

    weight[:, 0] = 2.0
    new, keep = SparseGPT(damp=1e-9).sparse(weight, moments, First(0.1))
    rest = moments[1:, 1:]
    best = weight[:, 1:] + weight[:, :1] * torch.linalg.solve(rest, moments[1:, 0])
    torch.testing.assert_close(new[:, 1:], best, rtol=1e-5, atol=1e-6)
    assert not keep[:, 0].any() and (new[:, 0] == 0).all()


def test_a_pattern_of_a_convolution_runs_along_its_channels() -> None:
    model = nn.Sequential(nn.Conv2d(8, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3, groups=2)).eval()
    x = torch.randn(4, 8, 9, 9)
    found = sparsify(model, x[:2], NM(2, 4), SparseGPT(), [x])
    mask = found.masks["0.weight"]  # [O, C, 3, 3]
    assert (mask.unflatten(1, (2, 4)).sum(2) == 2).all()
    assert found.skipped["2.weight"] == "its 18 inputs are no multiple of 4"


def test_one_threshold_for_all_layers() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)).eval()
    with torch.no_grad():
        model[0].weight.mul_(0.1)
    found = sparsify(model, torch.randn(2, 8), Unstructured(0.5), together=True)
    assert found.sparsity == 0.5
    small, large = (layer.sparsity for layer in found.layers)
    assert small > 0.8 and large < 0.2


@pytest.mark.parametrize("name", ZOO)
def test_every_kind_of_network_can_be_made_sparse(name: str) -> None:
    case = ZOO[name]
    model = case.model()
    found = sparsify(model, case.inputs(2), Unstructured(0.5), SparseGPT(), [case.inputs(32)])
    own = dict(found.model.named_parameters(remove_duplicate=False))
    assert found.masks or found.skipped
    for key, mask in found.masks.items():
        assert (own[key][~mask] == 0).all() and not mask.all()


def test_masks_hold_in_training() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4)).eval()
    found = sparsify(model, torch.randn(2, 16), Unstructured(0.8))
    held = put_masks(copy.deepcopy(found.model), found.masks)
    batches = [(torch.randn(16, 16), torch.randint(0, 4, (16,)))]
    data = Data(batches, batches, (), ())
    recover_(held, data, classification(), FineTune(epochs=3, lr=0.01), Setting(quiet=True))
    trained = permanent(held)
    for name, mask in found.masks.items():
        assert (trained.get_parameter(name)[~mask] == 0).all()
    assert compressed_bytes(trained) < 0.75 * compressed_bytes(model)


def test_wrong_use_is_said() -> None:
    model = nn.Sequential(nn.Linear(8, 8)).eval()
    x = torch.randn(2, 8)
    with pytest.raises(DataError, match=r"Wanda looks at what layers read: give inputs="):
        sparsify(model, x, Unstructured(0.5), Wanda())
    with pytest.raises(DataError, match="no inputs"):
        sparsify(model, x, Unstructured(0.5), Wanda(), [])
    with pytest.raises(RecipeError, match=r"'1\.weight', which is no layer's weight; .*'0\.weight'"):
        sparsify(model, x, Unstructured(0.5), skip=["1.weight"])
    with pytest.raises(RecipeError, match="together= is for Unstructured"):
        sparsify(model, x, NM(), together=True)
    with pytest.raises(RecipeError, match="at least 0 and below 1"):
        Unstructured(1.0)
    with pytest.raises(RecipeError, match="0 < n <= m; got 5:4"):
        NM(5, 4)
    kept = sparsify(model, x, Unstructured(0.5), skip=["0.weight"])
    assert kept.skipped == {"0.weight": "it was asked to stay"} and not kept.masks and kept.sparsity == 0.0
