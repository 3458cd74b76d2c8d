"""Operators of a user's own: the page's code runs as it stands, sizes are rewritten, mistakes are told in one line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import secateur as sc
from secateur.coupling import Axes, Facts
from secateur.errors import CorruptFile, NotVerified, RequestError
from secateur.graph import op_name
from secateur.surgery import Call, cut_groups
from tests.zoo import random_plan, randomise

PAGE = Path(__file__).parents[2] / "docs" / "own-operators.md"


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """The names that the page's code leaves, run from top to bottom; torch registers an operator once."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {"__name__": "own_operators"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec", dont_inherit=True), names)
    return names


def call_of(module: Any, name: str) -> Any:
    return next(n for n in module.graph.nodes if n.op == "call_function" and op_name(n) == name)


def test_the_page_teaches_its_operator(page: dict[str, Any]) -> None:
    model, result = page["model"], page["result"]
    lock = next(lock for lock in page["locked"] if lock.param == "a.weight")
    assert "docs/own-operators.md" in lock.remedy and lock.reason in PAGE.read_text(encoding="utf-8")
    assert call_of(result.model, "mine::scale_shift_relu").args[3] == 8
    assert not result.groups.unknown and result.verification.max_relative_error < 1e-5
    assert all(lock.param != "a.weight" or "no rule" not in lock.reason for lock in result.locked)
    with torch.no_grad():
        assert result.model(page["x"]).shape == model(page["x"]).shape
        assert page["small"](page["x"]).shape == model(page["x"]).shape
    dense = sc.Macs(page["graph"]).bind(page["groups"])
    plain = sc.Macs(page["graph"]).bind(sc.find_groups(page["graph"], page["rules"]))
    everything = page["groups"].coupling.alive(page["groups"].groups[0].atoms[:0])
    assert dense.of(everything) == plain.of(everything) + 16 * 10 * 10


def test_the_page_is_short() -> None:
    """A dozen lines: the rule and the call that hands it over."""
    block = re.search(r"```python\n(def rule.*?)\n\nresult", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert block and len([line for line in block[1].splitlines() if line.strip()]) <= 12


@pytest.mark.parametrize("seed", range(3))
def test_every_cut_of_it_is_right_and_every_wrong_number_refused(page: dict[str, Any], seed: int) -> None:
    from secateur.planning import dead_atoms
    from secateur.surgery import Sizes, emit, verify
    from tests.random_networks.mutants import mistaken

    groups = page["groups"]
    plan = random_plan(groups, seed + 1)
    emitted = emit(groups, Sizes(groups.coupling, groups.coupling.alive(dead_atoms(groups, plan))))
    call = call_of(emitted.module, "mine::scale_shift_relu")
    assert call.args[3] == len(plan.kept["scale"][0])
    for wrong in (16, call.args[3] + 1):
        with mistaken(call, {"channels": wrong}), pytest.raises(NotVerified, match="does not run at"):
            verify(groups, emitted)
    assert verify(groups, emitted, torch.float64).max_relative_error < 1e-12


def test_without_its_sizes_the_cut_is_refused(page: dict[str, Any]) -> None:
    groups = sc.find_groups(page["graph"], {"mine::scale_shift_relu": page["rule"]})
    with pytest.raises(NotVerified, match="scale_shift_relu"):
        cut_groups(groups, random_plan(groups, 1))


@torch.library.custom_op("secateur_tests::grouped_rms", mutates_args=())
def grouped_rms(x: Tensor, weight: Tensor, groups: int, channels: int) -> Tensor:
    """RMS over each of ``groups`` parts of the channels."""
    assert x.shape[1] == channels
    parts = x.unflatten(1, (groups, channels // groups))
    return (parts / parts.square().mean(2, keepdim=True).add(1e-6).sqrt()).flatten(1, 2) * weight


@grouped_rms.register_fake
def _(x: Tensor, weight: Tensor, groups: int, channels: int) -> Tensor:
    return torch.empty_like(x)


def grouped_rms_rule(f: Facts, a: Any) -> Axes:
    channel = f.same(a.x[1], a.weight[0])
    own, _ = f.split(channel, (a.groups, len(channel) // a.groups))
    f.note("groups", own)
    f.reduce("x", 1, channel)
    return (a.x[0], channel)


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.weight, self.b = nn.Linear(8, 12), nn.Parameter(torch.rand(12) + 0.5), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(grouped_rms(self.a(x), self.weight, 4, 12))


def grouped(**changes: Any) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    model = Grouped().eval()
    randomise(model)
    options = {"sizes": {"groups": "groups", "channels": ("x", 1)}} | changes
    rule = options.pop("rule", grouped_rms_rule)
    graph = sc.trace(model, torch.randn(3, 8))
    return model, sc.find_groups(graph, {"secateur_tests::grouped_rms": sc.Operator(rule, **options)})


@pytest.mark.parametrize("seed", [0, 1, 2, 4])
def test_a_norm_with_groups(seed: int) -> None:
    """The reference of a norm is evaluated on the kept positions, with sizes found apart from the cut program's."""
    _, groups = grouped()
    assert sorted(g.units for g in groups) == [3, 4]  # channels inside of groups, and groups
    result = cut_groups(groups, random_plan(groups, seed), dtype=torch.float64)
    assert result.verification.max_relative_error < 1e-12 and result.verification.kind == "restricted"


def test_a_rewrite_by_hand(page: dict[str, Any]) -> None:
    def by_hand(call: Call) -> None:
        call.set(channels=call.sizes.of(call.value("x")[1]))

    groups = sc.find_groups(
        page["graph"], {"mine::scale_shift_relu": sc.Operator(page["rule"], rewrite=by_hand)}
    )
    result = cut_groups(groups, random_plan(groups, 1), dtype=torch.float64)
    assert call_of(result.module, "mine::scale_shift_relu").args[3] < 16
    assert result.verification.max_relative_error < 1e-12


def test_a_norm_must_declare_its_sizes() -> None:
    """Its reference cannot follow a rewrite by hand: it would agree with any."""

    def by_hand(call: Call) -> None:
        call.set(groups=call.sizes.of(call.notes["groups"]), channels=call.sizes.of(call.value("x")[1]))

    _, groups = grouped(sizes={}, rewrite=by_hand)
    with pytest.raises(NotVerified, match=r"grouped_rms.*Operator\(sizes=\.\.\.\)"):
        cut_groups(groups, random_plan(groups, 1))


def wrong(**changes: Any) -> str:
    with pytest.raises(RequestError) as caught:
        grouped(**changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_wrong_declaration_is_told() -> None:
    assert "'channels' is the length of ('x', 0), but the model passes 12 where that length is" in wrong(
        sizes={"channels": ("x", 0)}
    )
    assert "no argument 'width'" in wrong(sizes={"width": ("x", 1)})
    assert "which is not there" in wrong(sizes={"groups": "heads"})
    assert "which is not there" in wrong(sizes={"channels": ("y", 1)})
    assert "which is not there" in wrong(sizes={"channels": ("x", 7)})
    assert "names no operator" in said({"grouped_rms": grouped_rms_rule})
    assert "expects a rule f(facts, arguments) or an Operator; got int" in said(
        {"secateur_tests::grouped_rms": 3}
    )


def said(rules: Any) -> str:
    with pytest.raises(RequestError) as caught:
        sc.find_groups(sc.trace(Grouped(), torch.randn(3, 8)), rules)
    return str(caught.value)


def test_saved_programs_with_an_own_operator(page: dict[str, Any], tmp_path: Path) -> None:
    small = page["result"].model
    sc.save(small, tmp_path)
    loaded = sc.load(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(loaded(page["x"]), small(page["x"]))
    code = f"import secateur as sc\ntry:\n    sc.load({str(tmp_path)!r})\nexcept sc.CorruptFile as e:\n    print(e)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (
        "the program calls 'mine::scale_shift_relu', which torch does not know: import the package that registers it, "
        "then load again"
    )
    assert issubclass(CorruptFile, RequestError)
