"""Why axes are locked: each lock goes back to what first caused it, however far from there it comes out."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from secateur import coupling
from secateur.coupling import Lock, find_groups, joins
from secateur.coupling.facts import Facts, Pin
from secateur.coupling.remedies import remedy_for
from secateur.coupling.solve import solve
from secateur.graph import trace
from tests.zoo import ZOO, ready


class Net(nn.Module):
    """A few layers, and a forward pass given as a function."""

    def __init__(self, body: Callable[[Net, Tensor], object], layers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.body = body
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> object:
        return self.body(self, x)


@dataclass(frozen=True)
class Case:
    """A network, and the cause of each lock: ``kind operator``, ``parameter:axis`` with what is locked of it."""

    name: str
    body: Callable[[Net, Tensor], object]
    causes: Mapping[str, str]
    layers: Callable[[], dict[str, nn.Module]] = lambda: chain(16, 12, 8, 5)
    inputs: tuple[int, ...] = (2, 16)


def chain(*sizes: int) -> dict[str, nn.Module]:
    """``a``, ``b``, ``c``: linear layers without biases, from size to size."""
    names = "abcdefgh"[: len(sizes) - 1]
    return {
        name: nn.Linear(i, o, bias=False) for name, i, o in zip(names, sizes[:-1], sizes[1:], strict=True)
    }


def middle(f: Callable[[Tensor], Tensor]) -> Callable[[Net, Tensor], object]:
    """``f`` between the second and the third layer."""
    return lambda m, x: m.c(f(m.b(m.a(x).relu())))


@torch.library.custom_op("secateur_locks::opaque", mutates_args=())
def opaque(x: Tensor) -> Tensor:
    """An operator that nothing is known of."""
    return x.clone()


@opaque.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def channel_gate(m: Net, x: Tensor) -> Tensor:
    """An unknown operator along the channels, whose result weighs them; then a residual."""
    h = m.a(x)
    return m.c((h * opaque(h).sigmoid()).relu() + m.b(x))


def tied(m: Net, x: Tensor) -> Tensor:
    """Each position tied to those two and three places on, so that all are one unit."""
    h = m.a(x)
    h = torch.cat([h[:, 2:], h[:, :2]], 1) + h
    return m.b(torch.cat([h[:, 3:], h[:, :3]], 1) * h)


IN = "input input"
OUT = "output output"
UNKNOWN = "unknown operator secateur_locks.opaque.default"
FREE = {"a.weight:1 16": IN, "c.weight:0 5": OUT}
LOCKED = {"b.weight:0 8", "c.weight:1 8"}


def both(cause: str) -> dict[str, str]:
    """``b``'s outputs and ``c``'s inputs go back to one cause."""
    return {**FREE, **dict.fromkeys(LOCKED, cause)}


CASES = (
    Case("nothing but ends", middle(lambda h: h), FREE),
    Case("an operator without a rule", middle(opaque), both(UNKNOWN)),
    Case("its outputs, through a product and a residual", channel_gate,
         {"a.weight:1 16": IN, "b.weight:1 16": IN, "c.weight:0 5": OUT,
          **dict.fromkeys(("a.weight:0 8", "b.weight:0 8", "c.weight:1 8"), UNKNOWN)},
         lambda: {**chain(16, 8), "b": nn.Linear(16, 8, bias=False), "c": nn.Linear(8, 5, bias=False)}),
    Case("and through heads", middle(lambda h: opaque(h.view(-1, 2, 4)).flatten(1)),
         both(UNKNOWN)),
    Case("order", middle(lambda h: h.cumsum(-1)), both("order aten.cumsum.default")),
    Case("a shift", middle(lambda h: h.roll(1, -1)), both("order aten.roll.default")),
    Case("the best of them", middle(lambda h: h.topk(8, -1).values), both("order aten.topk.default")),
    Case("positions by number", middle(lambda h: h[:, [1, 0, 2, 3, 4, 5, 7, 6]]), FREE),
    Case("one position", lambda m, x: m.c(h := m.b(m.a(x))) + h[:, 3:4],
         {**FREE, "b.weight:0 1": "position aten.slice.Tensor", "c.weight:1 1": "position aten.slice.Tensor"}),
    Case("taken apart", middle(lambda h: torch.stack(h.unbind(-1), -1)),
         {**FREE, "b.weight:0 8": "position aten.unbind.int", "c.weight:1 8": "constant aten.stack.default"}),
    Case("numbered in the program", middle(lambda h: h * torch.arange(8.0)), FREE),
    Case("a stride that divides nothing", middle(lambda h: torch.cat([h[:, ::3], h[:, :5]], 1)),
         both("stride aten.slice.Tensor")),
    Case("reshapes that do not nest",
         middle(lambda h: h.view(-1, 2, 6).view(-1, 3, 4).transpose(1, 2).flatten(1).view(-1, 2, 6).flatten(1)),
         {"a.weight:1 16": IN, "c.weight:0 5": OUT, "b.weight:0 12": "reshape aten.view.default",
          "c.weight:1 12": "reshape aten.view.default"},
         lambda: chain(16, 12, 12, 5)),
    Case("places in an image", lambda m, x: m.b(m.a(m.conv(x).flatten(2))),
         {"conv.weight:1 3": IN, "conv.weight:0 4": OUT,
          "a.weight:1 16": "space aten.conv2d.default", "b.weight:0 5": OUT},
         lambda: {"conv": nn.Conv2d(3, 4, 2, stride=2, bias=False), **chain(16, 6, 5)}, (2, 3, 8, 8)),
    Case("a vocabulary, and what is read from it", lambda m, x: m.b(m.a(m.table(x.long()))),
         {"table.weight:0 20": "lookup aten.embedding.default", "b.weight:0 5": "output output"},
         lambda: {"table": nn.Embedding(20, 16), **chain(16, 8, 5)}, (2, 7)),
    Case("a part that is fixed beside one that is free", lambda m, x: m.b(torch.cat([x, m.a(x)], 1)),
         {"a.weight:1 16": IN, "b.weight:1 16": IN, "b.weight:0 5": OUT},
         lambda: {"a": nn.Linear(16, 6, bias=False), "b": nn.Linear(22, 5, bias=False)}),
    Case("tied until one is left", tied,
         {"a.weight:1 16": IN, "a.weight:0 12": "tied aten.mul.Tensor", "b.weight:1 12": "tied aten.mul.Tensor",
          "b.weight:0 5": OUT},
         lambda: chain(16, 12, 5)),
)  # fmt: skip


def found(
    body: Callable[[Net, Tensor], object], layers: Mapping[str, nn.Module], *shape: int
) -> coupling.Groups:
    torch.manual_seed(0)
    return find_groups(trace(Net(body, layers).eval(), torch.randn(*shape).abs()))


@pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
def test_the_first_cause(case: Case) -> None:
    locked = found(case.body, case.layers(), *case.inputs).locked
    told = {
        f"{k.param}:{k.axis} {k.positions}": f"{k.causes[0].kind} {k.operator}"
        for k in locked
        if k.param.endswith("weight")
    }
    assert told == case.causes
    for lock in locked:
        assert (
            lock.reason
            and lock.remedy
            and "{" not in lock.remedy.replace("free_outputs={", "").replace("rules={", "")
        )
        assert Path(__file__).name in lock.source


class Gated(nn.Module):
    """The gate's operator is unknown; what it is multiplied with and added to is locked with it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(16, 8), nn.Linear(16, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        gate = opaque(h).sigmoid()
        return self.c((h * gate + self.b(x)).relu())


def test_the_line_is_that_of_the_cause() -> None:
    groups = find_groups(trace(Gated().eval(), torch.randn(2, 16)))
    locks = {f"{k.param}:{k.axis}": k for k in groups.locked}
    for name in ("a.weight:0", "b.weight:0", "b.bias:0", "c.weight:1"):
        assert "test_locks.py:" in locks[name].source and "opaque(h).sigmoid()" in locks[name].source
    # An input has no line: that where it is met is told.
    assert "self.b(x)" in locks["b.weight:1"].source
    assert "self.c(" in locks["c.weight:0"].source


def test_all_causes_are_told() -> None:
    """The rows of a tied table are looked up, and are what the model returns: freeing one of both frees nothing."""
    lock = next(k for k in ready("tied_head")[1].locked if (k.param, k.axis) == ("head.weight", 0))
    assert [c.kind for c in lock.causes] == ["lookup", "output"]


def test_positions_of_a_lock() -> None:
    layers = {"a": nn.Linear(16, 8, bias=False), "b": nn.Linear(8, 5, bias=False)}
    groups = found(lambda m, x: m.b(h := m.a(x)) + h[:, 3:4] + h[:, 7:8], layers, 2, 16)
    lock = next(k for k in groups.locked if (k.param, k.axis) == ("a.weight", 0))
    assert (lock.spans, lock.positions, lock.size) == (((3, 4), (7, 8)), 2, 8)


def test_axes_of_a_locked_stream_belong_together() -> None:
    """Two blocks on one residual stream, which is the output; the vocabulary is a lock of its own."""

    def body(m: Net, x: Tensor) -> Tensor:
        h = m.table(x.long())
        for up, down in ((m.a, m.b), (m.c, m.d)):
            h = h + down(up(h).relu())
        return h

    layers: dict[str, nn.Module] = {"table": nn.Embedding(20, 16)}
    layers |= {n: nn.Linear(i, o) for n, i, o in zip("abcd", (16, 8, 16, 8), (8, 16, 8, 16), strict=True)}
    locked = found(body, layers, 2, 7).locked
    stream = {(k.param, k.axis) for k in locked if k.operator == "output"}
    assert stream == {
        ("table.weight", 1), ("a.weight", 1), ("c.weight", 1),
        ("b.weight", 0), ("b.bias", 0), ("d.weight", 0), ("d.bias", 0),
    }  # fmt: skip
    assert len({k.component for k in locked if k.operator == "output"}) == 1
    assert len({k.component for k in locked}) == 2


def test_a_stream_locked_along_the_way_stays_one() -> None:
    """Each block pins the stream for a reason of its own; what met stays together."""

    def body(m: Net, x: Tensor) -> Tensor:
        h = m.a(x)
        h = h + m.b(h).cumsum(-1)
        h = h + m.c(h).cumsum(-1)
        return m.d(h.relu())

    layers = {
        n: nn.Linear(i, o, bias=False) for n, i, o in zip("abcd", (16, 8, 8, 8), (8, 8, 8, 5), strict=True)
    }
    locked = found(body, layers, 2, 16).locked
    stream = {k.component for k in locked if k.operator == "aten.cumsum.default"}
    assert len(stream) == 1 and sum(k.component in stream for k in locked) == 6


def test_a_unit_alone_in_its_group_is_locked_and_no_group() -> None:
    case = next(c for c in CASES if c.name == "tied until one is left")
    groups = found(case.body, case.layers(), *case.inputs)
    assert len(groups) == 0 and groups.prunable_share == 0.0
    lock = next(k for k in groups.locked if k.param == "a.weight" and k.axis == 0)
    assert "live and die together" in lock.reason and lock.operator == "aten.mul.Tensor"


def test_no_lock_is_left_without_a_cause() -> None:
    for name in ZOO:
        for lock in ready(name)[1].locked:
            assert lock.causes[0].kind not in ("fixed size", "operator"), (name, lock)
            assert lock.operator != "-" and lock.remedy


def reasons() -> Iterator[str]:
    """What the rules say when they pin, from their source."""
    folder = Path(coupling.__file__).parent
    for path in (*(folder / "rules").glob("*.py"), folder / "facts.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        named = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("pin", "pinned")):
                continue
            said = node.args[1] if len(node.args) > 1 else None
            for part in [said.body, said.orelse] if isinstance(said, ast.IfExp) else [said]:
                if isinstance(part, ast.Name) and part.id in named:
                    yield named[part.id]
                elif isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.value


def test_every_reason_that_a_rule_gives_has_its_remedy() -> None:
    """A new reason needs a line in ``remedies.py``: what would free the axis?"""
    nothing = np.empty(0, dtype=np.int64)
    said = set(reasons())
    assert len(said) > 15
    missing = [
        r
        for r in said
        for made in (True, False)
        if remedy_for(Pin(nothing, r, None, made)).kind == "operator"
    ]
    assert missing == []


def test_causes_of_pinned_axes_travel() -> None:
    f = Facts()
    fixed = f.pinned(6, "because")
    outer, inner = f.split(fixed, (2, 3))
    assert [f.cause_of(a).reason for a in (outer, inner, f.part(fixed, 1, 4))] == ["because"] * 3
    axis = f.fresh(3)
    f.same(axis, inner)
    joined = f.join([f.pinned(3, "first"), f.fresh(2), f.pinned(4, "last")])
    solution = solve(f)
    assert f.pins[solution.reasons[axis[0]]].reason == "because"
    told = [f.pins[r].reason if r >= 0 else "" for r in solution.reasons[joined]]
    assert told == ["first"] * 3 + [""] * 2 + ["last"] * 4


class Residual(nn.Module):
    """Two layers on a stream."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = nn.Linear(16, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        for layer in (self.b, self.c):
            h = h + layer(h)
        return self.d(h)


def test_where_layers_are_tied() -> None:
    groups = find_groups(trace(Residual().eval(), torch.randn(2, 16)))
    (join,) = joins(groups.coupling, groups["a.weight:0"].atoms)
    assert join.operator == "aten.add.Tensor" and "h = h + layer(h)" in join.source and len(join.layers) == 2


def test_locks_are_ordinary_records() -> None:
    lock = ready("plain")[1].locked[0]
    assert str(lock).startswith(
        f"{lock.param} axis {lock.axis}, {lock.positions} of {lock.size}: {lock.reason}"
    )
    assert isinstance(lock, Lock) and (lock.operator, lock.reason, lock.source, lock.remedy) == (
        lock.causes[0].operator, lock.causes[0].reason, lock.causes[0].source, lock.causes[0].remedy
    )  # fmt: skip
