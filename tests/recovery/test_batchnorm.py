from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from secateur.data import Data, split_data
from secateur.recovery import RecalibrateBatchNorm, Setting, recover, recover_
from secateur.recovery.state import digest
from secateur.task import classification

QUIET = Setting(quiet=True)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 6),
        nn.BatchNorm1d(6), nn.Linear(6, 3),
    )  # fmt: skip


def batches(count=12, size=16):
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(size, 1, 4, 4, generator=generator) * 3 + 2,
            torch.randint(0, 3, (size,), generator=generator),
        )
        for _ in range(count)
    ]


def expected(model, data, count):
    """The same by hand for the first norm: mean of the statistics of each batch."""
    with torch.no_grad():
        seen = [model[0](x) for x, _ in list(data.train)[:count]]
    means = torch.stack([v.mean((0, 2, 3)) for v in seen]).mean(0)
    return means, torch.stack([v.transpose(0, 1).flatten(1).var(1) for v in seen]).mean(0)


@pytest.mark.parametrize("count", [1, 4])
def test_statistics_are_the_mean_over_batches(count):
    model = network().train()
    data = split_data(batches(), batches())
    twin = copy.deepcopy(model)
    better, record = recover(
        model, data, classification(), RecalibrateBatchNorm(count, keep_best=False), QUIET
    )
    mean, variance = expected(model, data, count)
    torch.testing.assert_close(better[1].running_mean, mean)
    torch.testing.assert_close(better[1].running_var, variance)
    assert not torch.equal(better[6].running_mean, model[6].running_mean)
    assert digest(model) == digest(twin) and better.training
    assert record.steps == count and record.kind == "batchnorm"
    for name, value in better.named_parameters():
        assert torch.equal(value, dict(model.named_parameters())[name])


def test_the_same_in_graph_form():
    model = network().eval()
    x = torch.randn(4, 1, 4, 4)
    graph = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)).module(
        check_guards=False
    )
    data = split_data(batches(), batches())
    options = RecalibrateBatchNorm(5, keep_best=False)
    better, _ = recover(model, data, classification(), options, QUIET)
    before = {n: b.clone() for n, b in graph.named_buffers()}
    # An exported program's own module refuses eval(); the graph form of a cut accepts it.
    graph.eval = graph.train = lambda *_: graph
    recover_(graph, data, classification(), options, QUIET)
    found = dict(graph.named_buffers())
    assert not torch.equal(found["1.running_mean"], before["1.running_mean"])
    torch.testing.assert_close(found["1.running_mean"], better[1].running_mean)
    torch.testing.assert_close(found["6.running_var"], better[6].running_var)


def test_it_never_makes_the_held_out_part_worse():
    model = network().eval()
    data = split_data(batches(), batches())
    model[1].running_mean.fill_(50.0)
    _, record = recover(model, data, classification(), RecalibrateBatchNorm(), QUIET)
    assert record.after >= record.before


def test_the_old_statistics_come_back_if_they_were_better():
    model = network().eval()
    x = torch.randn(200, 1, 4, 4)
    with torch.no_grad():
        y = model(x).argmax(1)  # this very model is perfect on these labels
    perfect, strange = [(x, y)], [(x * 9 + 5, y)]
    data = Data(train=strange, select=perfect, evaluate=perfect, calibration=(x,))
    task = classification()
    without, record = recover(model, data, task, RecalibrateBatchNorm(keep_best=False), QUIET)
    assert record.before == 1.0 and record.after < 1.0 and record.best_epoch == 1
    assert digest(without) != digest(model)
    better, record = recover(model, data, task, RecalibrateBatchNorm(), QUIET)
    assert record.after == 1.0 and record.best_epoch == 0
    assert digest(better) == digest(model)


def test_a_model_without_batch_norm_is_left_alone():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    data = split_data(batches(), batches())
    same, record = recover(model, data, classification(), RecalibrateBatchNorm(), QUIET)
    assert digest(same) == digest(model)
    assert record.after == record.before and record.best_epoch == 0 and record.steps == 1
