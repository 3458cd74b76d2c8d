"""The user's model is never changed: not its tensors, modes, gradients, attributes, nor PyTorch's own switches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secateur.coupling import find_groups
from secateur.errors import SecateurError
from secateur.graph import trace
from secateur.scoring import Taylor, score
from secateur.surgery import cut, cut_groups, prune
from tests.zoo import ZOO, random_plan
from tests.zoo.case import randomise
from tests.zoo.convolutions import Plain


class Remembering(nn.Module):
    """Keeps a cache, a counter and a list, and has a hook, a frozen weight and modes of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Plain(0.3)
        self.cache: dict[str, Tensor] = {}
        self.seen: list[int] = []
        self.calls = 0
        self.note = "mine"

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen.append(1)
        self.cache["last"] = x
        return self.net(x)


def model() -> nn.Module:
    found = Remembering()
    randomise(found)
    found.train()
    found.net.bn1.eval()
    found.net.conv1.weight.requires_grad_(False)
    for i, p in enumerate(found.parameters()):
        if p.requires_grad:
            p.grad = torch.full_like(p, float(i))
    found.net.register_buffer("extra", torch.arange(3.0), persistent=False)
    return found


def bytes_of(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().numpy().tobytes()


def picture(module: nn.Module) -> dict[str, Any]:
    """Everything about a model that can be compared."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return {
        "tensors": {n: (id(t), t.data_ptr(), bytes_of(t), t.dtype, t.requires_grad, t._version) for n, t in tensors},
        "gradients": {n: None if p.grad is None else bytes_of(p.grad) for n, p in module.named_parameters()},
        "modes": {n: m.training for n, m in module.named_modules()},
        "attributes": {
            n: {k: repr(v) for k, v in m.__dict__.items() if not k.startswith("_")} for n, m in module.named_modules()
        },
        "hooks": {n: (len(m._forward_hooks), len(m._forward_pre_hooks)) for n, m in module.named_modules()},
        "names": [n for n, _ in module.named_modules()],
    }  # fmt: skip


def switches() -> tuple[object, ...]:
    return (
        torch.is_grad_enabled(), torch.backends.mha.get_fastpath_enabled(), torch.get_default_dtype(),
        torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(),
    )  # fmt: skip


def _plan(m: nn.Module, x: Tensor) -> None:
    groups = find_groups(trace(m, x))
    plan = random_plan(groups, 1)
    cut_groups(groups, plan, dtype=torch.float64)
    cut(m, plan, x)


def _score(m: nn.Module, x: Tensor) -> None:
    score(m, find_groups(trace(m, x)), Taylor(), [(x, torch.tensor([0, 1, 2]))])


def _train_the_result(m: nn.Module, x: Tensor) -> None:
    small = prune(m, x, keep=0.5).model.train()
    optimiser = torch.optim.SGD([p for p in small.parameters() if p.requires_grad], 1.0)
    small(x).square().sum().backward()
    optimiser.step()


def _fail(m: nn.Module, x: Tensor) -> None:
    with pytest.raises(SecateurError):
        prune(m, x[:, :1], keep=0.5)
    with pytest.raises(SecateurError):
        prune(m, x, keep=2.0)


@pytest.mark.parametrize("work", [_plan, _score, _train_the_result, _fail])
def test_nothing_is_changed(work: Callable[[nn.Module, Tensor], None]) -> None:
    m, x = model(), torch.randn(3, 3, 8, 8)
    before, given, state, random = picture(m), x.clone(), switches(), torch.get_rng_state()
    work(m, x)
    assert picture(m) == before
    assert torch.equal(x, given)
    assert switches() == state
    if work is not _train_the_result:  # that one draws its dropout
        assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("name", ["vit_unbind", "encoder", "tied_head", "folded", "in_place", "half"])
def test_other_kinds_of_models(name: str) -> None:
    m = ZOO[name].model().train()
    before = {n: (id(t), t.detach().clone(), t._version) for n, t in m.state_dict(keep_vars=True).items()}
    prune(m, ZOO[name].inputs(2), keep=0.5)
    for n, t in m.state_dict(keep_vars=True).items():
        assert before[n][0] == id(t) and torch.equal(before[n][1], t) and before[n][2] == t._version
    assert all(module.training for module in m.modules())


def test_a_traced_graph_reads_the_users_own_tensors() -> None:
    """No copy is made before the cut, so that large models fit."""
    m = ZOO["plain"].model()
    graph = trace(m, torch.randn(1, 3, 8, 8))
    assert all(graph.tensor(n) is p for n, p in m.named_parameters())
