from __future__ import annotations

import pytest
import torch
from torch import nn

from secateur.data import (
    Data,
    check_data,
    class_deltas,
    evaluate,
    metric_difference,
    per_class,
)
from secateur.data.compare import wilson
from secateur.data.evaluation import Evaluation
from secateur.errors import DataError, NotFinite, TaskError
from secateur.task import Task, accuracy, classification


class Fixed(nn.Module):
    """Gives the inputs back as logits, and remembers the mode it ran in."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.BatchNorm1d(3)
        self.modes: list[bool] = []

    def forward(self, x):
        self.modes.append(self.training)
        return x


def batches(*sizes, classes=3):
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(n, classes, generator=generator), torch.randint(0, classes, (n,), generator=generator))
        for n in sizes
    ]


def test_metric_and_loss_are_over_samples_and_not_over_batches():
    loader = batches(5, 1, 3)
    x, y = torch.cat([b[0] for b in loader]), torch.cat([b[1] for b in loader])
    found = evaluate(Fixed(), loader, classification())
    assert found.samples == 9
    assert found.metric == pytest.approx(accuracy(x, y))
    assert found.loss == pytest.approx(float(nn.functional.cross_entropy(x, y)), rel=1e-6)
    assert torch.equal(found.outputs, x) and torch.equal(found.targets, y)


def test_modes_come_back_module_by_module():
    model = Fixed().train()
    model.frozen.eval()
    evaluate(model, batches(4), classification())
    assert model.modes == [False]
    assert model.training and not model.frozen.training


def test_modes_come_back_after_a_failure():
    model = Fixed().train()
    with pytest.raises(TaskError):
        evaluate(model, batches(4), Task(loss=lambda o, t: o, metric=accuracy))
    assert model.training


def test_dict_batches_and_plain_callables():
    x, y = batches(4)[0]
    found = evaluate(lambda pixels: {"logits": pixels}, [{"pixels": x, "labels": y}], classification())
    assert found.metric == pytest.approx(accuracy(x, y))


def test_wrong_labels_and_nan_are_told():
    x, _ = batches(4)[0]
    with pytest.raises(DataError, match="label 7 is out of range: the model has 3 outputs"):
        evaluate(Fixed(), [(x, torch.tensor([0, 1, 7, 2]))], classification())
    with pytest.raises(NotFinite, match="outputs hold NaN"):
        evaluate(Fixed(), [(x * float("nan"), torch.zeros(4, dtype=torch.long))], classification())
    with pytest.raises(DataError, match="empty"):
        evaluate(Fixed(), [], classification())
    with pytest.raises(TaskError, match="metric failed"):
        evaluate(Fixed(), batches(4), Task(nn.functional.cross_entropy, lambda o, t: 1 / 0))


def test_check_data_names_the_part_and_the_batch():
    good, bad = batches(4)[0], (torch.zeros(2, 3), torch.tensor([0, -1]))
    data = Data([good], [good], [good, bad], ())
    with pytest.raises(DataError, match="batch 1 of the evaluation data: label -1 is out of range"):
        check_data(data, classes=3)
    check_data(data)  # without classes the targets may be anything
    floats = (torch.zeros(2, 3), torch.zeros(2))
    with pytest.raises(DataError, match="class indices must be integers"):
        check_data(Data([floats], [good], [good], ()), classes=3)
    ignored = (torch.zeros(2, 3), torch.tensor([0, -100]))
    check_data(Data([ignored], [good], [good], ()), classes=3)


def evaluation(right: torch.Tensor, targets: torch.Tensor, classes: int = 2) -> Evaluation:
    predicted = torch.where(right, targets, (targets + 1) % classes)
    outputs = nn.functional.one_hot(predicted, classes).float()
    return Evaluation(float(right.double().mean()), 0.0, outputs, targets, len(targets))


def test_class_by_class_counts_and_order():
    targets = torch.tensor([0] * 100 + [1] * 50)
    dense = evaluation(torch.ones(150, dtype=torch.bool), targets)
    right = torch.ones(150, dtype=torch.bool)
    right[100:110] = False
    worst, other = class_deltas(dense, evaluation(right, targets), ["cat", "dog"])
    assert (worst.name, worst.dense, worst.pruned) == ("dog", 1.0, 0.8)
    assert worst.delta == pytest.approx(-0.2)
    assert worst.interval[0] < -0.2 < worst.interval[1] < 0
    assert other.delta == 0.0
    # Nothing changed among 100 samples: the interval is small but not empty.
    assert -0.05 < other.interval[0] < 0 < other.interval[1] < 0.05


def test_paired_intervals_are_seeded_and_narrower_than_unpaired_ones():
    generator = torch.Generator().manual_seed(0)
    targets = torch.zeros(400, dtype=torch.long)
    right = torch.rand(400, generator=generator) < 0.7
    after = right.clone()
    after[:4] = ~after[:4]
    dense, pruned = evaluation(right, targets), evaluation(after, targets)
    (first,) = class_deltas(dense, pruned, seed=1)
    (again,) = class_deltas(dense, pruned, seed=1)
    assert first == again
    low, high = wilson(int(right.sum()), 400)
    assert first.interval[1] - first.interval[0] < (high - low) / 2


def test_metric_difference_holds_the_difference():
    targets = torch.tensor([0, 1] * 200)
    right = torch.ones(400, dtype=torch.bool)
    right[:8] = False
    dense, pruned = evaluation(torch.ones_like(right), targets), evaluation(right, targets)
    found = metric_difference(dense, pruned, classification(), resamples=500)
    assert found.delta == pytest.approx(-0.02)
    assert -0.05 < found.interval[0] < -0.02 < found.interval[1] < 0
    assert found == metric_difference(dense, pruned, classification(), resamples=500)


def test_other_samples_cannot_be_compared():
    a = evaluation(torch.ones(4, dtype=torch.bool), torch.tensor([0, 1, 0, 1]))
    b = evaluation(torch.ones(4, dtype=torch.bool), torch.tensor([1, 0, 0, 1]))
    with pytest.raises(DataError, match="not on the same samples"):
        class_deltas(a, b)
    with pytest.raises(DataError, match="not on the same samples"):
        metric_difference(a, b, classification())


def test_wilson_against_a_published_value():
    # 81 of 263 (Newcombe, 1998, table I): 0.2553 to 0.3662.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(0, 10)[0] == pytest.approx(0.0) and wilson(10, 10)[1] == pytest.approx(1.0)
    assert wilson(0, 10)[1] > 0.2


def test_per_class_accuracy():
    outputs = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    found = per_class(outputs, torch.tensor([0, 1, 1]), ["a", "b"])
    assert [(c.name, c.accuracy, c.samples) for c in found] == [("a", 1.0, 1), ("b", 0.5, 2)]
    with pytest.raises(DataError, match="shape"):
        per_class(torch.zeros(2, 2, 2), torch.zeros(2))
