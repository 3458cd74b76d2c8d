"""Blocks removed whole from the user's own class: modules that stand in for them, and what cannot be had."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import secateur as sc
from secateur.errors import FormError
from tests.zoo.blocks import BLOCKS

ONE_OF_SEVERAL, IN_THE_CODE = "read elsewhere too", "code outside of the modules"
IMPOSSIBLE = {"shared": ONE_OF_SEVERAL, "skips": IN_THE_CODE}
POSSIBLE = [case for case in BLOCKS.values() if case.name not in IMPOSSIBLE]
REMOVABLE = [(case.name, block, 0.5) for case in POSSIBLE for block in case.blocks]
REMOVABLE += [(case.name, block, None) for case in POSSIBLE for block in list(case.blocks)[:1]]


@pytest.mark.parametrize(("name", "block", "keep"), REMOVABLE)
def test_the_class_without_a_block(name: str, block: str, keep: float | None) -> None:
    case = BLOCKS[name]
    model = case.model()
    before = copy.deepcopy(model.state_dict())
    own = sc.prune(model, case.inputs(2), remove=[block], keep=keep, form="module")
    assert type(own.model) is type(model) and own.plan.removed == (block,)
    graph = sc.cut(model, own.plan, case.inputs(2))
    inputs = case.inputs(3)
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    assert torch.allclose(first(own.model(*given)), first(graph(*given)), atol=1e-5)
    mine, theirs = own.model.state_dict(), dict(graph.named_parameters())
    assert {n for n, _ in own.model.named_parameters()} == theirs.keys()
    assert all(torch.equal(mine[n], p) for n, p in theirs.items())
    assert all(
        torch.equal(t, before[n]) for n, t in model.state_dict().items()
    )  # the user's own is as it was


def first(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


@pytest.mark.parametrize("name", sorted(IMPOSSIBLE))
def test_what_the_class_cannot_do_without_is_said(name: str) -> None:
    case = BLOCKS[name]
    block = next(iter(case.blocks))
    with pytest.raises(FormError, match=IMPOSSIBLE[name]):
        sc.prune(case.model(), case.inputs(2), remove=[block], form="module")
    assert sc.prune(case.model(), case.inputs(2), remove=[block], form="auto").form == "graph"


def test_neighbours_and_all_uses_of_shared_weights() -> None:
    """What comes into a removed layer may be the output of another that was removed."""
    for name, blocks in (("pre_norm", ["layers.0", "layers.1"]), ("plain", ["body.3", "body.6"]),
                         ("shared", ["block", "block#2", "block#3"])):  # fmt: skip
        case = BLOCKS[name]
        own = sc.prune(case.model(), case.inputs(2), remove=blocks, form="module")
        graph = sc.cut(case.model(), own.plan, case.inputs(2))
        assert torch.allclose(own.model(case.inputs(3)), graph(case.inputs(3)), atol=1e-5)


def test_the_class_goes_on() -> None:
    """Trains, copies, keeps its mode, takes another batch; the stand-in has no weights and keeps numbers."""
    case = BLOCKS["two_branches"]
    model = case.model().train()
    own = sc.prune(model, case.inputs(2), remove=["layers.0.attn"], form="module").model
    assert own.training
    own(case.inputs(5)).sum().backward()
    assert all(p.grad is not None for p in own.parameters())
    again = copy.deepcopy(own).eval()
    assert torch.equal(again(case.inputs(2)), own.eval()(case.inputs(2)))
    hollow = own.get_submodule("layers.0.attn")
    assert not list(hollow.parameters()) and "was Attention" in repr(hollow)
    assert not [n for n in own.state_dict() if n.startswith("layers.0.attn")]


class Wide(nn.Module):
    """Layers whose numbers the model looks up from outside."""

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.inner = 2.0, nn.Linear(8, 8)

        def forward(self, x: Tensor, *, mask: Tensor) -> tuple[Tensor, Tensor]:
            return x + self.inner(x * mask).relu(), mask

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(6, 8), nn.Linear(8, 3)
        self.layers = nn.ModuleList(self.Layer() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x, mask = self.stem(x), (x[..., :1] > 0).to(x.dtype)
        for layer in self.layers:
            x, mask = layer(x, mask=mask)
            x = x * layer.scale / layer.inner.in_features
        return self.head(x)


def test_keywords_tuples_and_numbers_read_from_outside() -> None:
    torch.manual_seed(0)
    model, x = Wide().eval(), torch.randn(2, 5, 6)
    own = sc.prune(model, x, remove=["layers.1"], form="module").model
    y, mask = model.stem(x), (x[..., :1] > 0).to(x.dtype)
    for i, layer in enumerate(model.layers):
        y = (y if i == 1 else layer(y, mask=mask)[0]) * 2.0 / 8
    assert torch.allclose(own(x), model.head(y), atol=1e-6)


@pytest.mark.parametrize("keep", [None, 0.5])
def test_a_stored_model_is_loaded_into_the_class(keep: float | None, tmp_path) -> None:  # type: ignore[no-untyped-def]
    case = BLOCKS["two_branches"]
    model, x = case.model(), case.inputs(2)
    own = sc.prune(model, x, remove=["layers.0"], keep=keep, form="module")
    sc.save(sc.cut(model, own.plan, x), tmp_path)
    loaded = sc.load(tmp_path, into=case.model())
    assert type(loaded) is type(model)
    assert torch.allclose(loaded(case.inputs(3)), own.model(case.inputs(3)), atol=1e-6)


class Configuration:
    """As many layers as heads, so that a number alone does not say which it is; a rate for each layer."""

    def __init__(self) -> None:
        self.width, self.layers, self.heads = 8, 4, 4
        self.rates = [0.5, 1.0, 1.5, 2.0]


class Configured(nn.Module):
    """Built from a configuration; each layer knows its number, as those with a cache do."""

    class Layer(nn.Module):
        def __init__(self, config: Configuration, number: int) -> None:
            super().__init__()
            self.number, self.heads, self.rate = number, config.heads, config.rates[number]
            self.inner, self.outer = (nn.Linear(config.width, config.width) for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            y = self.inner(x).unflatten(-1, (self.heads, -1)).softmax(-1).flatten(-2)
            return x + self.rate * self.outer(y)

    def __init__(self, config: Configuration) -> None:
        super().__init__()
        self.config = config
        self.stem, self.head = nn.Linear(6, config.width), nn.Linear(config.width, 3)
        self.layers = nn.ModuleList(self.Layer(config, i) for i in range(config.layers))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def test_a_configuration_says_that_there_are_fewer_layers() -> None:
    torch.manual_seed(0)
    model, x = Configured(Configuration()).eval(), torch.randn(2, 5, 6)
    own = sc.prune(model, x, remove=["layers.0", "layers.2"], form="module", config=True).model
    assert isinstance(own, Configured) and own.config is not model.config
    assert (own.config.layers, own.config.heads, own.config.rates) == (2, 4, [1.0, 2.0])
    assert [(layer.number, layer.rate) for layer in own.layers] == [(0, 1.0), (1, 2.0)]
    again = Configured(own.config).eval()
    again.load_state_dict(own.state_dict())
    y = model.head(model.layers[3](model.layers[1](model.stem(x))))
    assert torch.allclose(again(x), y, atol=1e-6) and torch.allclose(own(x), y, atol=1e-6)
    assert (model.config.layers, len(model.layers)) == (4, 4)


def test_a_class_that_its_configuration_does_not_build_keeps_the_graph_form() -> None:
    torch.manual_seed(0)
    configured = Configured(Configuration()).eval()
    configured.layers[1] = nn.Sequential(configured.layers[1])  # what the configuration does not build
    with pytest.raises(FormError, match="configuration"):
        sc.prune(configured, torch.randn(2, 5, 6), remove=["layers.0"], form="module", config=True)
