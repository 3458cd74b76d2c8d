"""Verification: mistakes put into a cut program on purpose are refused, by the name of the node that differs."""

from __future__ import annotations

import copy
import operator

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

from secateur.coupling import Groups, find_groups
from secateur.errors import NotVerified
from secateur.graph import op_name, trace
from secateur.surgery import Emitted, Sizes, emit, prune, relative_error, verify
from tests.zoo import ready
from tests.zoo.case import randomise


class Halves(nn.Module):
    """Two slices of one layer, used apart."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(8, 12)
        self.left, self.right = nn.Linear(6, 4), nn.Linear(6, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        return self.head(self.left(x[:, :6]) * self.right(x[:, 6:]))


def halves() -> Groups:
    model = Halves().eval()
    randomise(model)
    return find_groups(trace(model, torch.randn(4, 8)))


def emitted(groups: Groups) -> Emitted:
    """A third of the units of every group cut."""
    dead = np.concatenate([g.atoms[::3][: g.units - 1] for g in groups])
    return emit(groups, Sizes(groups.coupling, groups.coupling.alive(dead)))


def node(program: Emitted, kind: str, number: int = 0) -> fx.Node:
    """The n-th call of an operator in the cut program."""
    return [n for n in program.module.graph.nodes if n.op == "call_function" and op_name(n) == kind][number]


def refused(groups: Groups, program: Emitted, dtype: torch.dtype | None = torch.float64) -> str:
    assert verify(groups, emitted(groups), dtype).max_relative_error < 1e-5  # before the mistake
    with pytest.raises(NotVerified) as caught:
        verify(groups, program, dtype)
    with pytest.raises(NotVerified):  # each node by itself too
        verify(groups, program, equal_inputs=True)
    assert caught.value.node is not None and caught.value.node in str(caught.value)
    assert caught.value.exit_status == 1
    return caught.value.node


@pytest.mark.parametrize("dtype", [None, torch.float64])
def test_a_permuted_weight(dtype: torch.dtype | None) -> None:
    groups = ready("plain")[1]
    program = emitted(groups)
    weight = program.module.get_parameter("conv2.weight")
    with torch.no_grad():
        weight.copy_(weight.flip(1))
    assert refused(groups, program, dtype) == "conv2_weight"


def test_a_permuted_statistic() -> None:
    groups = ready("plain")[1]
    program = emitted(groups)
    mean = program.module.get_buffer("bn1.running_mean")
    mean.copy_(mean.roll(1))
    assert refused(groups, program) == "bn1_running_mean"


@pytest.mark.parametrize("name", ["vit_unbind", "vit_chunk", "gqa_enable", "encoder"])
def test_attention_scaled_by_the_new_head_size(name: str) -> None:
    groups = ready(name)[1]
    program = emitted(groups)
    call = node(program, "aten::scaled_dot_product_attention")
    assert call.kwargs["scale"] == 0.5  # one over the root of the original four
    call.kwargs = {**call.kwargs, "scale": None}
    assert refused(groups, program) == call.name


def test_a_slice_that_is_off_by_one() -> None:
    groups = halves()
    program = emitted(groups)
    cuts = [n for n in program.module.graph.nodes if op_name(n) == "aten::slice" and n.args[1] == 1]
    call = cuts[0]
    start, stop = call.args[2], call.args[3]
    call.args = (*call.args[:2], start + 1, stop + 1)
    assert refused(groups, program) == call.name


def test_a_split_of_other_sizes() -> None:
    groups = ready("shuffle")[1]
    program = emitted(groups)
    call = node(program, "aten::split_with_sizes")
    call.args = (call.args[0], [call.args[1][0] - 1, call.args[1][1] + 1], call.args[2])
    assert refused(groups, program) == call.name


def test_a_wrong_number_of_groups() -> None:
    groups = ready("group_norm")[1]
    program = emitted(groups)
    call = node(program, "aten::group_norm")
    call.args = (call.args[0], 1, *call.args[2:])
    assert refused(groups, program) == call.name


def test_a_program_that_does_not_run() -> None:
    groups = ready("grouped")[1]
    program = emitted(groups)
    call = node(program, "aten::conv2d", 1)
    call.args = (*call.args[:6], 4)
    with pytest.raises(NotVerified, match=rf"does not run at {call.name}"):
        verify(groups, program)


def test_a_missing_activation() -> None:
    groups = ready("plain")[1]
    program = emitted(groups)
    call = node(program, "aten::relu", 1)
    call.target = torch.ops.aten.alias.default
    assert refused(groups, program) == call.name


def test_a_forgotten_bias() -> None:
    groups = ready("residual")[1]
    program = emitted(groups)
    call = node(program, "aten::linear")
    call.args = (*call.args[:2], None)
    assert refused(groups, program) == call.name


def test_a_wrong_operand() -> None:
    groups = halves()
    program = emitted(groups)
    left, right = node(program, "aten::linear", 1), node(program, "aten::linear", 2)
    right.args = (left.args[0], *right.args[1:])
    assert refused(groups, program) == right.name


def test_a_norm_with_another_epsilon() -> None:
    groups = ready("mixer")[1]
    program = emitted(groups)
    call = node(program, "aten::layer_norm")
    call.args = (*call.args[:4], 0.3)
    assert refused(groups, program) == call.name


def test_a_softmax_over_another_axis() -> None:
    model = nn.Sequential(nn.Linear(8, 12), nn.Softmax(-1), nn.Linear(12, 4)).eval()
    groups = find_groups(trace(model, torch.randn(4, 8)))
    program = emitted(groups)
    call = node(program, "aten::softmax")
    call.args = (call.args[0], 0)
    assert refused(groups, program) == call.name


def test_removing_a_unit_more_than_the_plan_says() -> None:
    groups = ready("plain")[1]
    program = emitted(groups)
    everything = Sizes(groups.coupling, groups.coupling.alive(np.empty(0, dtype=np.int64)))
    with pytest.raises(NotVerified, match="relative error inf"):
        verify(groups, Emitted(program.module, program.nodes, everything))


def test_the_tolerance_can_be_given() -> None:
    groups = ready("plain")[1]
    program = emitted(groups)
    weight = program.module.get_parameter("fc.weight")
    with torch.no_grad():
        weight.mul_(1 + 1e-4)
    assert verify(groups, program).max_relative_error == pytest.approx(1e-4, rel=0.1)
    with pytest.raises(NotVerified, match="at most 1e-06 accepted"):
        verify(groups, program, tolerance=1e-6)


def test_a_verified_program_is_left_as_it_was() -> None:
    groups = ready("vit_chunk")[1]
    program = emitted(groups)
    before = copy.deepcopy(program.module)
    verify(groups, program, torch.float64)
    assert all(
        torch.equal(a, b)
        for a, b in zip(before.state_dict().values(), program.module.state_dict().values(), strict=True)
    )
    assert str(before.graph) == str(program.module.graph)


@pytest.mark.parametrize(
    ("found", "reference", "expected"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 2.5], [1.0, 2.0], 0.25),
        ([0.1, 4.0], [0.0, 4.0], 0.025),
        ([float("nan")], [float("nan")], 0.0),
        ([float("inf")], [float("inf")], 0.0),
        ([float("nan"), 1.0], [0.5, 1.0], float("nan")),
        ([1.0, 2.0, 3.0], [1.0, 2.0], float("inf")),
        ([], [], 0.0),
        ([0.0], [0.0], 0.0),
    ],
)
def test_relative_error(found: list[float], reference: list[float], expected: float) -> None:
    assert relative_error(torch.tensor(found), torch.tensor(reference)) == pytest.approx(
        expected, nan_ok=True
    )


def test_relative_error_of_other_types() -> None:
    assert relative_error(torch.tensor([1, 2]), torch.tensor([1, 3])) == float("inf")
    assert relative_error(torch.tensor([True]), torch.tensor([True])) == 0.0
    assert relative_error(torch.tensor([1 + 1j]), torch.tensor([1 + 2j])) == pytest.approx(1 / 5**0.5)


def test_a_nan_is_never_accepted() -> None:
    """Comparisons with NaN are false, so the check must not be written the other way round."""
    groups = ready("plain")[1]
    program = emitted(groups)
    with torch.no_grad():
        program.module.get_parameter("fc.bias")[0] = float("nan")
    assert refused(groups, program, None) == "fc_bias"


def test_symbolic_sizes_are_numbers_in_both() -> None:
    groups = ready("shuffle")[1]
    assert any(
        n.target in (operator.mul, operator.floordiv) or "sym_size" in op_name(n) for n in groups.graph.nodes
    )
    assert verify(groups, emitted(groups), torch.float64).max_relative_error <= 1e-12


def test_zeros_as_example_inputs_do_not_make_the_check_vacuous() -> None:
    model = nn.Sequential(nn.Linear(8, 16, bias=False), nn.Linear(16, 4, bias=False))
    groups = find_groups(trace(model, torch.zeros(2, 8)))
    emitted = emit(groups, Sizes(groups.coupling, groups.coupling.alive(groups.groups[0].atoms[:4])))
    with torch.no_grad():
        emitted.module.get_parameter("1.weight").mul_(1.5)
    with pytest.raises(NotVerified):
        verify(groups, emitted)


class Centred(nn.Module):
    """Features centred, then their mean taken again: zero, but for rounding."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 12), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = x - x.mean(-1, keepdim=True)
        return self.b(x - x.mean(-1, keepdim=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_rounding_leaves_of_a_difference_is_no_mistake(dtype: torch.dtype) -> None:
    """It has no scale of its own that an error could be relative to; a mistake at the same place still shows."""
    model = Centred().eval().to(dtype)
    randomise(model)
    groups = find_groups(trace(model, torch.randn(4, 8, dtype=dtype)))
    assert verify(groups, emitted(groups)).max_relative_error < 1e-5
    program = emitted(groups)
    call = node(program, "aten::mean", 1)
    call.target = torch.ops.aten.sum.dim_IntList
    call.args = (
        program.nodes[next(n for n in groups.graph.nodes if op_name(n) == "aten::linear")],
        [-1],
        True,
    )
    assert refused(groups, program, None) == call.name


class Tie(nn.Module):
    """The larger of two sums of the same numbers, added up in opposite order: rounding alone decides."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.c = nn.Linear(8, 12), nn.Linear(12, 4)
        self.w = nn.Parameter(torch.randn(12))

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x).tanh()
        sums = torch.stack([(h * self.w).sum(-1), (h.flip(-1) * self.w.flip(-1)).sum(-1)], -1)
        return self.c(h) + sums.argmax(-1, keepdim=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_tie_is_decided_alike_in_both(dtype: torch.dtype) -> None:
    groups = find_groups(trace(Tie().eval().to(dtype), torch.randn(2, 64, 8, dtype=dtype)))
    assert verify(groups, emitted(groups)).max_relative_error < 1e-5
    program = emitted(groups)
    call = node(program, "aten::argmax")
    call.args = (call.args[0], 1, True)
    assert refused(groups, program, None) == call.name


def test_nan_on_the_kept_positions_alone_is_refused() -> None:
    """The deviation of one feature is not a number, though that of many is."""

    class Deviation(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 6), nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            return self.b(x / (1 + x.std(-1, keepdim=True)))

    groups = find_groups(trace(Deviation().eval(), torch.randn(3, 8)))
    one = emit(groups, Sizes(groups.coupling, groups.coupling.alive(groups.groups[0].atoms[1:])))
    with pytest.raises(NotVerified, match="NaN on the kept positions alone"):
        verify(groups, one)


def test_a_mask_is_no_scale() -> None:
    lowest = torch.finfo(torch.float32).min
    reference, found = torch.tensor([lowest, 1.0, -2.0]), torch.tensor([lowest, 1.0, -1.0])
    assert relative_error(found, reference) == 0.5
    assert relative_error(reference.clone(), reference) == 0.0
    assert (
        relative_error(torch.tensor([0.0, 1.0, -2.0]), reference) == 1.0
    )  # where only one has it, it counts


class Saturated(nn.Module):
    """What a clamp leaves is one value everywhere, so that no slice of it can be told from another."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = nn.Linear(8, 12), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.a(x) + 100).clamp(max=1.0).narrow(1, 4, 5))


def test_a_slice_of_equal_values_is_told_by_its_positions() -> None:
    model = Saturated().eval()
    groups = find_groups(trace(model, torch.randn(4, 8)))
    program = emitted(groups)
    call = node(program, "aten::narrow")
    x, dim, start, length = call.args
    call.args = (x, dim, start - 1, length)
    program.module.recompile()
    inputs = torch.randn(4, 8)
    right = emitted(groups).module(inputs)
    assert torch.equal(program.module(inputs), right)  # nothing to be seen in the values
    assert refused(groups, program) == "narrow"


class Growing(nn.Module):
    """Layers, and then a map that doubles every difference fifty times, so that rounding is all that is left."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(16, 96), nn.Linear(96, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.a(x).relu()).tanh()
        for _ in range(50):
            x = 1 - 2 * x * x
        return x


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_that_grows_on_the_way_is_no_difference(dtype: torch.dtype) -> None:
    """Refused where the programs run beside each other, if rounding differs; each node by itself is as it should be."""
    torch.manual_seed(0)
    model, x = Growing().eval().to(dtype), torch.randn(4, 16, dtype=dtype)
    pruned = prune(model, x, keep=0.5)
    assert pruned.verification.max_relative_error < 1e-12 or "rounding" not in pruned.verification.reference
    groups = find_groups(trace(model, x))
    program = emitted(groups)
    assert verify(groups, program, equal_inputs=True).max_relative_error < 1e-13
    before = {n: t.clone() for n, t in program.module.state_dict().items()}
    verify(groups, program, equal_inputs=True)
    assert all(torch.equal(t, before[n]) for n, t in program.module.state_dict().items())
    call = node(program, "aten::linear", 1)
    call.args = call.args[:2]  # without its bias
    with pytest.raises(NotVerified, match="linear_1"):
        verify(groups, program, equal_inputs=True)
