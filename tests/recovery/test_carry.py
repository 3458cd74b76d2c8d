"""An optimiser carried over a cut goes on as if nothing had been there to cut."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur as sc
from secateur.coupling import find_groups
from secateur.errors import PlanError, RequestError
from secateur.graph import trace
from secateur.planning import Plan, plan_of
from secateur.surgery import cut_groups

Build = Callable[[Iterable[Any]], torch.optim.Optimizer]

OPTIMISERS: dict[str, Build] = {
    "sgd": lambda p: torch.optim.SGD(p, 0.05),
    "momentum": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, 0.01),
    "amsgrad": lambda p: torch.optim.Adam(p, 0.01, amsgrad=True, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1),
    "capturable": lambda p: torch.optim.AdamW(p, 0.01, foreach=False),
    "nadam": lambda p: torch.optim.NAdam(p, 0.01),
    "radam": lambda p: torch.optim.RAdam(p, 0.01),
    "adamax": lambda p: torch.optim.Adamax(p, 0.01),
    "adadelta": lambda p: torch.optim.Adadelta(p, 0.5),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.005, momentum=0.9, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, 0.05, lr_decay=0.01),
    "rprop": lambda p: torch.optim.Rprop(p, 0.005),
    "asgd": lambda p: torch.optim.ASGD(p, 0.05),
}
DEAD = ("conv1.weight:0", "conv2.weight:0", "fc1.weight:0")


class Net(nn.Module):
    """Convolutions without a bias (its gradient would be noise before batch norm), and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.fc1, self.fc2 = nn.Linear(8, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return self.fc2(F.relu(self.fc1(x.mean((2, 3)))))


def batches(count: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    g = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(16, 3, 6, 6, generator=g, dtype=torch.float64), torch.randint(0, 5, (16,), generator=g))
        for _ in range(count)
    ]


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, data: list[tuple[Tensor, Tensor]]
) -> list[float]:
    model.train()
    losses = []
    for x, target in data:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def with_dead_units(seed: int = 0) -> tuple[nn.Module, Plan]:
    """A network in which half of the units neither give nor take anything, and the plan that removes these."""
    torch.manual_seed(seed)
    model = Net().double()
    groups = find_groups(trace(model, torch.randn(2, 3, 6, 6, dtype=torch.float64)))
    dead = []
    for name in DEAD:
        group = groups[name]
        gone = np.random.default_rng(len(dead)).permutation(group.units)[: group.units // 2]
        dead.append(group.atoms[gone])
        for member in group.members:
            tensor = model.state_dict(keep_vars=True)[member.param]
            with torch.no_grad():
                if not member.param.endswith(("running_mean", "running_var")):
                    tensor.index_fill_(member.axis, torch.from_numpy(member.positions[gone].reshape(-1)), 0.0)
    return model, plan_of(groups, np.concatenate(dead))


def sliced(model: nn.Module, plan: Plan, name: str) -> Tensor:
    tensor = model.state_dict()[name]
    for axis, kept in plan.kept.get(name, {}).items():
        tensor = tensor.index_select(axis, torch.tensor(kept))
    return tensor


@pytest.mark.parametrize("name", OPTIMISERS)
def test_steps_after_the_cut_are_those_of_the_uncut_model(name: str) -> None:
    """Units whose weights in and out are zero have no gradient: without them nothing changes, moments included."""
    model, plan = with_dead_units()
    optimizer = OPTIMISERS[name](model.parameters())
    train(model, optimizer, batches(6, 1))
    small = sc.cut(model, plan, torch.randn(2, 3, 6, 6, dtype=torch.float64))
    carried = sc.carry_optimizer(optimizer, model, small, plan)
    assert type(carried) is type(optimizer)
    after = train(small, carried, batches(6, 2))
    assert after == pytest.approx(train(model, optimizer, batches(6, 2)), rel=1e-9)
    for own, tensor in small.named_parameters():
        torch.testing.assert_close(tensor.detach(), sliced(model, plan, own), rtol=1e-8, atol=1e-10)
    for own, buffer in small.named_buffers():
        torch.testing.assert_close(buffer, sliced(model, plan, own), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", ["momentum", "adam", "rmsprop"])
def test_a_new_optimiser_would_not_do(name: str) -> None:
    """What the test above is worth: without the moments the steps are others."""
    model, plan = with_dead_units()
    optimizer = OPTIMISERS[name](model.parameters())
    train(model, optimizer, batches(6, 1))
    small = sc.cut(model, plan, torch.randn(2, 3, 6, 6, dtype=torch.float64))
    after = train(small, OPTIMISERS[name](small.parameters()), batches(6, 2))
    assert after != pytest.approx(train(model, optimizer, batches(6, 2)), rel=1e-4)


def test_from_graph_form_to_graph_form() -> None:
    """Two cuts in a row, with training before, between and after."""
    model, plan = with_dead_units()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    train(model, optimizer, batches(4, 1))
    groups = find_groups(trace(model, x))
    half = {name: groups[name].units // 4 for name in DEAD}
    gone = [
        groups[n].atoms[~np.isin(np.arange(groups[n].units), kept_units(groups[n], plan))][:k]
        for n, k in half.items()
    ]
    first = plan_of(groups, np.concatenate(gone))
    once = cut_groups(groups, first).module
    carried = sc.carry_optimizer(optimizer, model, once, first)
    assert train(once, carried, batches(3, 2)) == pytest.approx(
        train(model, optimizer, batches(3, 2)), rel=1e-9
    )
    again = find_groups(trace(once, x))
    second = plan_of(again, np.concatenate([dead_units(again, n) for n in DEAD]))
    twice = cut_groups(again, second).module
    carried = sc.carry_optimizer(carried, once, twice, second)
    assert train(twice, carried, batches(3, 3)) == pytest.approx(
        train(model, optimizer, batches(3, 3)), rel=1e-9
    )
    assert first.then(second).kept == plan.kept


def kept_units(group: Any, plan: Plan) -> np.ndarray:
    member = group.members[0]
    kept = np.array(plan.kept[member.param][member.axis])
    return np.nonzero(np.isin(member.positions[:, 0], kept))[0]


def dead_units(groups: Any, name: str) -> np.ndarray:
    """Atoms whose bias, weights in and weights out are all zero."""
    group = groups[name]
    member = group.members[0]
    rows = groups.graph.tensor(member.param).detach().flatten(1).abs().sum(1)
    return group.atoms[(rows[torch.from_numpy(member.positions[:, 0])] == 0).numpy()]


def test_groups_and_the_schedules_rate_stay() -> None:
    model, plan = with_dead_units()
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.1},
        {
            "params": [p for p in model.parameters() if p.ndim == 1],
            "weight_decay": 0.0,
            "lr": 0.02,
            "note": "norms",
        },
    ]
    optimizer = torch.optim.SGD(groups, 0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    for batch in batches(3, 1):
        train(model, optimizer, [batch])
        schedule.step()
    small = sc.cut(model, plan, torch.randn(2, 3, 6, 6, dtype=torch.float64))
    carried = sc.carry_optimizer(optimizer, model, small, plan)
    for new, old in zip(carried.param_groups, optimizer.param_groups, strict=True):
        assert {k: v for k, v in new.items() if k != "params"} == {
            k: v for k, v in old.items() if k != "params"
        }
        assert len(new["params"]) == len(old["params"])
    assert carried.param_groups[1]["note"] == "norms" and carried.param_groups[0]["lr"] < 0.1
    again = torch.optim.lr_scheduler.CosineAnnealingLR(carried, 10)
    again.load_state_dict(schedule.state_dict())
    for new, old in ((again, schedule),):
        for _ in range(3):
            new.optimizer.step()
            old.optimizer.step()
            new.step()
            old.step()
        assert new.get_last_lr() == pytest.approx(old.get_last_lr())


def test_what_was_frozen_is_not_trained_and_what_is_given_is_not_changed() -> None:
    model, plan = with_dead_units()
    optimizer = torch.optim.Adam([model.fc1.weight, model.fc2.weight], 0.01)  # type: ignore[union-attr]
    train(model, optimizer, batches(2, 1))
    before = copy.deepcopy(optimizer.state_dict())
    small = sc.cut(model, plan, torch.randn(2, 3, 6, 6, dtype=torch.float64))
    carried = sc.carry_optimizer(optimizer, model, small, plan)
    held = {id(p) for g in carried.param_groups for p in g["params"]}
    assert held == {id(small.get_parameter("fc1.weight")), id(small.get_parameter("fc2.weight"))}
    train(small, carried, batches(2, 2))
    after = optimizer.state_dict()
    for index, state in before["state"].items():
        for key, value in state.items():
            assert torch.equal(value, after["state"][index][key])


class Tied(nn.Module):
    """One table as the embedding and the head."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.fc = nn.Embedding(10, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 10, bias=False)
        self.head.weight = self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.words(ids) + self.fc(self.words(ids)).tanh())


def test_tied_parameters_stand_once() -> None:
    model = Tied()
    ids = torch.randint(0, 10, (4, 3))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    model(ids).square().mean().backward()
    optimizer.step()
    result = sc.prune(model, ids, keep=0.5)
    carried = sc.carry_optimizer(optimizer, model, result.model, result.plan)
    (name,) = [n for n, p in result.model.named_parameters() if p.shape == (10, 4)]
    moment = carried.state[result.model.get_parameter(name)]["exp_avg"]
    kept = torch.tensor(next(iter(result.plan.kept[name].values())))
    assert torch.equal(moment, optimizer.state[model.words.weight]["exp_avg"][:, kept])
    result.model(ids).square().mean().backward()
    carried.step()


def test_the_users_own_class() -> None:
    model, _ = with_dead_units()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    train(model, optimizer, batches(2, 1))
    result = sc.prune(model, x, keep=0.5, form="module")
    assert isinstance(result.model, Net)
    carried = sc.carry_optimizer(optimizer, model, result.model, result.plan)
    moment = carried.state[result.model.conv2.weight]["exp_avg"]
    assert moment.shape == result.model.conv2.weight.shape
    train(result.model, carried, batches(2, 2))


def test_factors_of_a_second_moment() -> None:
    model, plan = with_dead_units()
    optimizer = torch.optim.Adafactor(model.parameters(), 0.01)
    train(model, optimizer, batches(2, 1))
    small = sc.cut(model, plan, torch.randn(2, 3, 6, 6, dtype=torch.float64))
    carried = sc.carry_optimizer(optimizer, model, small, plan)
    for key in ("row_var", "col_var"):
        old = optimizer.state[model.fc1.weight][key]  # type: ignore[union-attr, index]
        new = carried.state[small.get_parameter("fc1.weight")][key]
        assert new.shape == tuple(1 if n == 1 else m for n, m in zip(old.shape, (6, 4), strict=True))
    train(small, carried, batches(2, 2))


def test_a_state_of_another_shape_is_refused() -> None:
    model, plan = with_dead_units()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    small = sc.cut(model, plan, torch.randn(2, 3, 6, 6, dtype=torch.float64))
    optimizer.state[model.conv1.weight]["factor"] = torch.zeros(7)  # type: ignore[index]
    with pytest.raises(RequestError, match=r"SGD's 'factor' of 'conv1.weight' has shape \[7\]"):
        sc.carry_optimizer(optimizer, model, small, plan)
    optimizer.state[model.conv1.weight]["factor"] = [torch.zeros(7)]  # type: ignore[index]
    with pytest.raises(RequestError, match="is a list, which cannot be cut"):
        sc.carry_optimizer(optimizer, model, small, plan)


def test_lbfgs_is_refused_in_one_line() -> None:
    model, plan = with_dead_units()
    optimizer = torch.optim.LBFGS(model.parameters())
    x, target = batches(1, 1)[0]

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), target)
        loss.backward()
        return loss

    optimizer.step(closure)
    small = sc.cut(model, plan, torch.randn(2, 3, 6, 6, dtype=torch.float64))
    with pytest.raises(RequestError, match=r"LBFGS's '.*begin with a new optimiser"):
        sc.carry_optimizer(optimizer, model, small, plan)


def test_another_model_and_another_plan_are_refused() -> None:
    model, plan = with_dead_units()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    small = sc.cut(model, plan, x)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(RequestError, match="give the model that the optimiser was built on"):
        sc.carry_optimizer(optimizer, copy.deepcopy(model), small, plan)
    with pytest.raises(PlanError, match=r"the plan makes '.*' of shape .*, the cut model has"):
        sc.carry_optimizer(optimizer, model, small, Plan(plan.fingerprint, {}))
    with pytest.raises(RequestError, match="none of the optimiser's parameters"):
        sc.carry_optimizer(optimizer, model, nn.Linear(2, 2), plan)
