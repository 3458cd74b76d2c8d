"""Models of shapes alone: analysed as with their weights, cut as shapes, and nothing is said to be compared."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import secateur as sc
from secateur.coupling import find_groups
from secateur.graph import as_shapes, trace
from secateur.surgery import cut_groups
from tests.zoo import ZOO, random_free_plan
from tests.zoo.language import Language, words


def on_meta() -> Language:
    with torch.device("meta"):
        return Language(2).eval()


@pytest.mark.parametrize("name", ZOO)
def test_shapes_give_the_groups_and_the_plan_that_weights_give(name: str) -> None:
    case = ZOO[name]
    model = case.model()
    real, alone = case.found(model), case.found(as_shapes(model))
    assert alone.graph.shapes_alone and not real.graph.shapes_alone
    assert alone.graph.fingerprint == real.graph.fingerprint
    assert [(g.name, g.units) for g in alone] == [(g.name, g.units) for g in real]
    plan = random_free_plan(alone, 2)
    shapes = cut_groups(alone, plan)
    assert shapes.verification.kind == "shapes" and math.isnan(shapes.verification.max_relative_error)
    assert "no value was compared" in shapes.verification.reference and shapes.verification.nodes > 0
    cut = sc.cut(model, plan, case.inputs(2))
    assert {n: t.shape for n, t in shapes.module.named_parameters()} == {
        n: t.shape for n, t in cut.named_parameters()
    }
    assert all(t.is_meta for t in shapes.module.parameters())


def test_inputs_may_have_values_or_not() -> None:
    one, two = trace(on_meta(), words()), trace(on_meta(), words().to("meta"))
    assert one.fingerprint == two.fingerprint == trace(Language(2).eval(), words()).fingerprint


def test_weights_on_meta_beside_buffers_with_values() -> None:
    model = Language(2).eval()
    tied = nn.Parameter(model.embed.weight.to("meta"))
    for module in model.modules():
        for name, tensor in list(module._parameters.items()):
            if tensor is not None:
                module._parameters[name] = nn.Parameter(tensor.to("meta"))
    model.embed.weight = model.head.weight = tied
    graph = trace(model, words())
    assert graph.shapes_alone and graph.fingerprint == trace(on_meta(), words()).fingerprint
    assert graph.aliases == trace(on_meta(), words()).aliases != {}
    assert not model.frequencies.is_meta  # the user's own is as it was


def test_a_copy_of_shapes_keeps_what_is_tied_and_reads_nothing() -> None:
    model = Language(2).eval()
    copy = as_shapes(model)
    assert copy is not model and copy.embed.weight is copy.head.weight
    assert all(t.is_meta for t in (*copy.parameters(), *copy.buffers()))
    assert not any(t.is_meta for t in model.parameters()) and as_shapes(copy) is copy


def test_a_budget_and_a_random_plan_need_no_weights() -> None:
    model = on_meta()
    graph = trace(model, words())
    groups = find_groups(graph)
    scores = sc.score(model, groups, sc.Random(1))
    plan = sc.allocate(
        scores, [sc.Params(graph), sc.Macs(graph)], sc.Budget(params="0.6x", macs="0.6x"),
        rounding=sc.Rounding(1),
    )  # fmt: skip
    cut = sc.cut(model, plan, words())
    assert sum(p.numel() for p in cut.parameters()) <= 0.6 * graph.parameters
    pruned = sc.prune(model, words(), keep=0.5, criterion=sc.Random(1))
    assert pruned.verification.kind == "shapes"


@pytest.mark.parametrize(
    ("criterion", "message"),
    [(sc.Magnitude(), "score\\(..., tensors=sc.open_checkpoint"), (sc.Taylor(), "runs the model")],
)
def test_criteria_that_need_weights_say_what_to_give(criterion: sc.Criterion, message: str) -> None:
    model = on_meta()
    with pytest.raises(sc.InputError, match=message):
        sc.score(model, find_groups(trace(model, words())), criterion, [words()])


def test_sizes_that_follow_from_values_are_refused() -> None:
    class Chosen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.a(x)
            return self.b(h[h.sum(-1) > 0])

    with pytest.raises(sc.NotExportable, match=r"follows from values.*meta device"):
        trace(Chosen().to("meta"), torch.randn(3, 4))
