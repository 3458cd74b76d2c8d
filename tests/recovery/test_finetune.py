from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from secateur.data import evaluate, split_data
from secateur.errors import DataError, NotFinite, RecipeError, TaskError
from secateur.recovery import Constant, Cosine, Distil, FineTune, Setting, recover, recover_
from secateur.recovery.state import digest
from secateur.task import Task, classification

QUIET = Setting(quiet=True)


def network(seed=0, outputs=3):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(64, outputs),
    )


def loaders(count=120, batch=16):
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(0, 3, (count,), generator=generator)
    x = torch.randn(count, 1, 4, 4, generator=generator) * 0.5 + y.view(-1, 1, 1, 1)
    return DataLoader(TensorDataset(x, y), batch_size=batch, shuffle=True), [(x, y)]


@pytest.fixture
def data():
    return split_data(*loaders())


def same(a: nn.Module, b: nn.Module) -> bool:
    return digest(a) == digest(b)


def test_it_learns_and_leaves_the_given_model_alone(data):
    model = network().eval()
    twin = copy.deepcopy(model)
    better, record = recover(model, data, classification(), FineTune(epochs=4, lr=1e-2), QUIET)
    assert same(model, twin) and all(p.grad is None for p in model.parameters())
    assert record.after > record.before + 0.2
    assert evaluate(better, data.select, classification()).metric == record.after
    assert record.steps == 4 * len(data.train) and len(record.epochs) == 4
    assert not better.training


def test_batch_norm_and_dropout_behave_as_in_training_while_it_lasts(data):
    model = network().eval()
    seen = []
    model[4].register_forward_hook(lambda m, i, o: seen.append((m.training, bool((o == 0).any()))))
    before = model[1].running_mean.clone()
    recover_(model, data, classification(), FineTune(lr=1e-2), QUIET)
    assert (True, True) in seen  # dropout dropped in training
    assert (False, False) in seen  # and not while it was judged
    assert not torch.equal(model[1].running_mean, before)
    assert not model.training


def test_the_best_state_is_kept_and_it_may_be_the_first(data):
    model, _ = recover(network(), data, classification(), FineTune(epochs=6, lr=1e-2), QUIET)
    again, record = recover(model, data, classification(), FineTune(lr=3.0, optimizer="sgd", clip=1.0), QUIET)
    assert record.best_epoch == 0 and record.after == record.before
    assert same(again, model)
    last, record = recover(
        model, data, classification(), FineTune(lr=3.0, optimizer="sgd", clip=1.0, keep_best=False), QUIET
    )
    assert not same(last, model) and record.best_epoch == 1


def test_the_same_seed_gives_the_same_weights_and_another_does_not(data):
    def trained(seed):
        torch.manual_seed(torch.seed())
        options = FineTune(lr=1e-2, keep_best=False)
        return recover(network(), data, classification(), options, Setting(seed=seed, quiet=True))[0]

    assert same(trained(1), trained(1))
    assert not same(trained(1), trained(2))


def test_the_users_generator_is_left_alone(data):
    model = network()
    torch.manual_seed(11)
    expected = torch.rand(2)
    torch.manual_seed(11)
    recover_(model, data, classification(), FineTune(), QUIET)
    assert torch.equal(torch.rand(2), expected)


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("after", [1, 2])
def test_resuming_in_the_middle_gives_the_same_bits(tmp_path, data, optimizer, after):
    options = FineTune(epochs=4, lr=5e-3, optimizer=optimizer, schedule=Cosine(warmup=0.2), clip=1.0)
    start = network()
    whole, record = recover(start, data, classification(), options, QUIET)
    setting = Setting(quiet=True, checkpoint=tmp_path / "round 1")
    steps = [0]

    def loss(outputs, targets):
        # Held-out batches count too, so the interruption falls into the middle of an epoch.
        steps[0] += torch.is_grad_enabled()
        if steps[0] > after * len(data.train) + 2:
            raise Interrupted
        return nn.functional.cross_entropy(outputs, targets)

    task = classification()
    with pytest.raises(TaskError):
        recover(start, data, Task(loss, task.metric, name=task.name), options, setting)
    # Another sitting, another loader over the same data.
    resumed, again = recover(start, split_data(*loaders()), classification(), options, setting)
    assert again.resumed and not record.resumed
    assert same(whole, resumed)
    assert [(e.loss, e.metric, e.held_out_loss) for e in again.epochs] == [
        (e.loss, e.metric, e.held_out_loss) for e in record.epochs
    ]
    assert (again.before, again.after, again.best_epoch, again.steps) == (
        record.before,
        record.after,
        record.best_epoch,
        record.steps,
    )
    # Finished: a third sitting has nothing to do.
    third, _ = recover(start, data, classification(), options, setting)
    assert same(whole, third)
    assert [p.name for p in setting.checkpoint.iterdir()] == ["recovery.safetensors"]


def test_a_checkpoint_of_another_recovery_is_ignored(tmp_path, data):
    setting = Setting(quiet=True, checkpoint=tmp_path)
    recover(network(0), data, classification(), FineTune(lr=1e-2), setting)
    other, record = recover(network(1), data, classification(), FineTune(lr=1e-2), setting)
    assert not record.resumed
    assert same(other, recover(network(1), data, classification(), FineTune(lr=1e-2), QUIET)[0])


def test_frozen_parameters_stay_as_they_are(data):
    model = network()
    model[0].requires_grad_(False)
    better, _ = recover(model, data, classification(), FineTune(lr=1e-2), QUIET)
    assert torch.equal(better[0].weight, model[0].weight)
    assert not better[0].weight.requires_grad and better[3].weight.requires_grad
    assert not torch.equal(better[3].weight, model[3].weight)


def test_a_model_with_nothing_to_train_is_refused(data):
    model = network().requires_grad_(False)
    with pytest.raises(RecipeError, match="requires_grad"):
        recover(model, data, classification(), FineTune(), QUIET)


def test_a_loss_that_is_not_finite_names_step_and_rate_and_leaves_the_best_state(data):
    steps = [0]

    def loss(outputs, targets):
        steps[0] += torch.is_grad_enabled()
        value = nn.functional.cross_entropy(outputs, targets)
        return value * float("nan") if steps[0] == 3 and torch.is_grad_enabled() else value

    model = network()
    twin = copy.deepcopy(model)
    with pytest.raises(
        NotFinite, match=r"became nan at step 3 of \d+ \(epoch 1, learning rate 0.0\d+\)"
    ) as raised:
        recover_(model, data, Task(loss, classification().metric), FineTune(lr=1e-2), QUIET)
    assert "\n" not in str(raised.value)
    assert same(model, twin) and all(p.grad is None for p in model.parameters())


def test_labels_out_of_range_are_told(data):
    with pytest.raises(DataError, match="label 2 is out of range: the model has 2 outputs"):
        recover(network(outputs=2), data, classification(), FineTune(), QUIET)


def test_steps_instead_of_epochs(data):
    _, record = recover(network(), data, classification(), FineTune(steps=9), QUIET)
    assert record.steps == 9 and len(record.epochs) == 2
    _, record = recover(network(), data, classification(), FineTune(epochs=0), QUIET)
    assert record.steps == 0 and record.after == record.before


def test_a_lower_metric_can_be_the_better_one(data):
    task = Task(nn.functional.cross_entropy, lambda o, t: float(nn.functional.cross_entropy(o, t)), False)
    _, record = recover(network(), data, task, FineTune(epochs=3, lr=1e-2), QUIET)
    assert record.after < record.before and record.best_epoch > 0


def test_weight_decay_spares_norms_and_biases():
    model = network()
    decayed, spared = FineTune(weight_decay=0.1).build(list(model.parameters())).param_groups
    assert decayed["weight_decay"] == 0.1 and {p.ndim for p in decayed["params"]} == {2, 4}
    assert spared["weight_decay"] == 0 and {p.ndim for p in spared["params"]} == {1}


def test_schedules_of_progress():
    cosine = Cosine(warmup=0.1, floor=0.2)
    assert cosine(0.05) == pytest.approx(0.5)
    assert cosine(0.1) == pytest.approx(1.0)
    assert cosine(0.55) == pytest.approx(0.6)
    assert cosine(1.0) == pytest.approx(0.2)
    assert Constant()(0.3) == 1.0 and Constant(warmup=0.5)(0.25) == 0.5


@pytest.mark.parametrize(
    "options", [{"optimizer": "adam"}, {"lr": 0}, {"epochs": -1}, {"clip": 0.0}, {"weight_decay": -1.0}]
)
def test_options_that_cannot_be_honoured(options):
    with pytest.raises(RecipeError):
        FineTune(**options)


class Flat(nn.Module):
    """Its ``view`` needs the usual layout in memory."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.c = nn.Linear(64, 3)

    def forward(self, x):
        return self.c(self.b(self.a(x)).view(x.shape[0], -1))


@pytest.mark.parametrize("build", [Flat, network])
def test_layout_in_memory_is_as_before(data, build):
    model = build()
    strides = [p.stride() for p in model.parameters()]
    recover_(model, data, classification(), FineTune(lr=1e-2), QUIET)
    assert [p.stride() for p in model.parameters()] == strides


def test_a_remainder_of_one_does_not_break_batch_norm():
    x, y = torch.randn(33, 8), torch.randint(0, 3, (33,))
    batches = [(x[i : i + 8], y[i : i + 8]) for i in range(0, 33, 8)]
    data = split_data(batches, batches, seed=0)
    model = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    _, record = recover(model, data, classification(), FineTune(), QUIET)
    assert record.steps in (3, 4)


def test_distillation_follows_the_teacher_and_leaves_it_alone(data):
    teacher, _ = recover(network(3), data, classification(), FineTune(epochs=6, lr=1e-2), QUIET)
    teacher.train()
    twin = copy.deepcopy(teacher)
    student, record = recover(
        network(4),
        data,
        classification(),
        Distil(teacher, alpha=1.0, train=FineTune(epochs=6, lr=1e-2)),
        QUIET,
    )
    assert same(teacher, twin) and teacher.training
    x = torch.cat([inputs for inputs, _ in data.train])
    with torch.no_grad():
        before = (network(4).eval()(x) - teacher.eval()(x)).square().mean()
        after = (student.eval()(x) - teacher(x)).square().mean()
    assert after < before / 2 and record.kind == "distil"


def test_distillation_of_a_regression_matches_the_outputs(data):
    task = Task(
        lambda o, t: nn.functional.mse_loss(o.mean(1), t.float()),
        lambda o, t: float((o.mean(1) - t).square().mean()),
        False,
    )
    distilled = Distil(network(3).eval(), alpha=1.0, train=FineTune(epochs=5, lr=1e-2, keep_best=False))
    student, _ = recover(network(4), data, task, distilled, QUIET)
    x = torch.cat([inputs for inputs, _ in data.train])
    with torch.no_grad():
        wanted = distilled.teacher(x)
        assert (student.eval()(x) - wanted).square().mean() < (
            network(4).eval()(x) - wanted
        ).square().mean() / 2


@pytest.mark.parametrize("options", [{"alpha": 1.5}, {"temperature": 0}])
def test_distillation_options(options):
    with pytest.raises(RecipeError):
        Distil(network(), **options)


def test_progress_is_a_line_per_epoch_away_from_a_terminal(data, capsys):
    recover(network(), data, classification(), FineTune(epochs=2), Setting(what="round 3"))
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = shown.err.strip().splitlines()
    assert len(lines) == 2 and lines[1].startswith("round 3: epoch 2/2, loss ")
    recover(network(), data, classification(), FineTune(epochs=2), QUIET)
    assert capsys.readouterr().err == ""


def test_progress_is_a_bar_on_a_terminal(data, capsys, monkeypatch):
    pytest.importorskip("rich")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    recover(network(), data, classification(), FineTune(epochs=2), Setting(what="round 3"))
    assert "14/14" in capsys.readouterr().err
