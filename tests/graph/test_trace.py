"""Tracing: the program computes what the model does, and what cannot be traced is said in one clear line."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.errors import InputError, NotExportable, NotFinite
from secateur.graph import op_name, trace
from secateur.task import call
from tests.zoo import ZOO, ready
from tests.zoo.convolutions import Plain, Residual
from tests.zoo.other import TwoInputs


def leaves(outputs: object) -> list[Tensor]:
    return torch.utils._pytree.tree_leaves(outputs)


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("batch", [1, 5])
def test_the_program_computes_what_the_model_does(name: str, batch: int) -> None:
    model, groups = ready(name)
    inputs = ZOO[name].inputs(batch)
    expected, found = leaves(call(model, inputs)), leaves(call(groups.graph.module, inputs))
    assert len(expected) == len(found) > 0
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-5)


def test_an_example_of_one_sample_leaves_the_batch_open() -> None:
    graph = trace(Plain().eval(), torch.randn(1, 3, 8, 8))
    assert graph.dynamic and graph.batch == 2
    assert graph.module(torch.randn(7, 3, 8, 8)).shape == (7, 5)


class FixedBatch(nn.Module):
    """Its own code fixes the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.fc(x).view(3, 6))


def test_a_batch_fixed_by_the_model_is_kept() -> None:
    graph = trace(FixedBatch(), torch.randn(3, 4))
    assert not graph.dynamic and graph.batch == 3


class SampleBySample(nn.Module):
    """A loop over the batch, which the exporter unrolls for as many samples as there are."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.fc(x[i]) for i in range(x.shape[0])])


def test_a_batch_that_a_loop_settles_is_not_called_open() -> None:
    assert not trace(SampleBySample().eval(), torch.randn(2, 4)).dynamic


class OneOfTwoSettled(nn.Module):
    """Takes one of its inputs sample by sample, the other as it comes."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.fc(x), torch.stack([self.fc(sample) for sample in y])


def test_a_batch_that_one_of_two_inputs_settles_is_not_called_open() -> None:
    assert not trace(OneOfTwoSettled(), (torch.randn(2, 4), torch.randn(2, 4))).dynamic


class HookedAtTheFirstCall(nn.Module):
    """Registers a hook once, and notes that it did."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.hooked = nn.Linear(4, 4), False

    def forward(self, x: Tensor) -> Tensor:
        if not self.hooked:
            self.fc.register_forward_hook(lambda layer, given, output: output * 2)
            self.hooked = True
        return self.fc(x)


def test_hooks_that_a_call_registers_do_not_stay() -> None:
    model, x = HookedAtTheFirstCall(), torch.randn(2, 4)
    graph = trace(model, x)
    assert not model.hooked and not model.fc._forward_hooks
    torch.testing.assert_close(graph.module(x), 2 * model.fc(x))


def test_further_axes_stay_open_on_request() -> None:
    model = nn.Sequential(
        nn.Conv1d(4, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 2)
    )
    graph = trace(model.eval(), torch.randn(2, 4, 10), dynamic={0: [2]})
    assert graph.module(torch.randn(3, 4, 17)).shape == (3, 2)


def test_keywords_in_any_order() -> None:
    model = TwoInputs().eval()
    image, numbers = torch.randn(2, 3, 8, 8), torch.randn(2, 4)
    graph = trace(model, {"numbers": numbers, "image": image})
    torch.testing.assert_close(graph.module(image=image, numbers=numbers), model(image, numbers))


class Gathering(nn.Module):
    """Takes whatever keywords it is given, as wrappers do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = TwoInputs()

    def forward(self, **inputs: Tensor) -> Tensor:
        return self.inner(**inputs)


def test_keywords_without_a_parameter_leave_the_batch_open() -> None:
    model, inputs = Gathering().eval(), ZOO["two_inputs"].inputs(1)
    graph = trace(model, inputs)
    assert graph.dynamic and "forward" not in model.__dict__
    other = ZOO["two_inputs"].inputs(5)
    torch.testing.assert_close(call(graph.module, other), call(model, other), rtol=1e-5, atol=1e-5)


def test_the_fingerprint_is_of_the_structure() -> None:
    x = torch.randn(1, 3, 8, 8)
    first, second = trace(Plain(), x), trace(Plain(), torch.randn(4, 3, 8, 8))
    assert first.fingerprint == second.fingerprint
    assert first.fingerprint != trace(Residual(), x).fingerprint


def test_weights_computed_from_weights_are_folded() -> None:
    groups = ready("folded")[1]
    names = groups.graph.state_names()
    assert groups.graph.folded["conv2.weight"] == ("conv2.weight",)
    assert set(groups.graph.folded["conv3.weight"]) == {
        "conv3.parametrizations.weight.original0", "conv3.parametrizations.weight.original1",
    }  # fmt: skip
    assert "conv3.parametrizations.weight.original0" not in names
    assert not {"aten::var_mean", "aten::_weight_norm_interface"} & {op_name(n) for n in groups.graph.nodes}


class Cosine(nn.Module):
    """Reads its embedding as it is and, in the head, normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.mix = nn.Linear(8, 8)

    def forward(self, ids: Tensor) -> Tensor:
        return F.linear(self.mix(self.embed(ids)), F.normalize(self.embed.weight))


class TwoNorms(nn.Module):
    """Normalises one weight along either axis."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(x, F.normalize(self.weight, dim=0)), F.normalize(self.weight, dim=1))


@pytest.mark.parametrize(
    ("model", "inputs"),
    [(Cosine(), torch.randint(0, 20, (2, 6))), (TwoNorms(), torch.randn(2, 8))],
    ids=["used raw", "twice"],
)
def test_a_folded_weight_does_not_replace_one_that_is_read_elsewhere(
    model: nn.Module, inputs: Tensor
) -> None:
    graph = trace(model.eval(), inputs)
    torch.testing.assert_close(graph.module(inputs), model(inputs))


class NormOfNorm(nn.Module):
    """A normed weight is read, and another is computed from it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 6))

    def forward(self, x: Tensor) -> Tensor:
        unit = F.normalize(self.weight, dim=1)
        return F.linear(F.relu(F.linear(x, unit)), unit.softmax(-1))


def test_a_weight_computed_from_a_folded_one_is_folded() -> None:
    graph = trace(NormOfNorm().eval(), torch.randn(2, 6))
    assert len(graph.folded) == 2
    assert not any("softmax" in op_name(n) for n in graph.nodes if n.op == "call_function")


def test_tied_parameters_have_one_name_and_an_alias() -> None:
    model, groups = ready("tied_head")
    assert groups.graph.aliases == {"embed.weight": "head.weight"}
    assert groups.graph.tensor("head.weight") is model.embed.weight


class Branching(nn.Module):
    """Cannot be exported: a Python branch on a value."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        if self.fc(x).sum() > 0:
            return x
        return self.fc(x)


def test_not_exportable_names_the_users_line() -> None:
    with pytest.raises(NotExportable, match=r"test_trace\.py:\d+ 'if self\.fc\(x\)\.sum\(\) > 0:'") as caught:
        trace(Branching(), torch.randn(2, 4))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 2


def test_a_wrong_shape_names_shape_and_line() -> None:
    with pytest.raises(InputError, match=r"\[1, 1, 8, 8\].*3 channels.*convolutions\.py:\d+") as caught:
        trace(Plain(), torch.randn(1, 1, 8, 8))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("inputs", [None, 3, "image"])
def test_inputs_of_no_known_form(inputs: object) -> None:
    with pytest.raises(InputError, match="a tensor, a tuple or a dict"):
        trace(Plain(), inputs)  # type: ignore[arg-type]


def test_not_a_module() -> None:
    with pytest.raises(InputError, match=r"torch\.nn\.Module; got function"):
        trace(lambda x: x, torch.randn(1, 3))  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["conv2.weight", "bn1.running_var"])
def test_weights_that_are_not_finite(name: str, value: float) -> None:
    model = Plain()
    model.state_dict()[name].view(-1)[3] = value
    with pytest.raises(NotFinite, match=f"'{name}' holds NaN or infinity"):
        trace(model, torch.randn(1, 3, 8, 8))


def test_a_buffer_may_hold_infinity() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)
            self.register_buffer("mask", torch.full((4, 4), float("-inf")).triu(1))

        def forward(self, x: Tensor) -> Tensor:
            scores: Tensor = self.layer(x).unsqueeze(1) + self.mask
            return scores.softmax(-1)

    model = Masked()
    assert trace(model, torch.randn(2, 4)).tensor("mask").isinf().any()
    model.mask[0, 0] = float("nan")
    with pytest.raises(NotFinite, match="'mask' holds NaN"):
        trace(model, torch.randn(2, 4))


def test_large_but_finite_weights_pass() -> None:
    model = nn.Linear(4, 4)
    with torch.no_grad():
        model.weight.fill_(3e38)
    assert trace(model, torch.randn(1, 4)).parameters == 20


class Reserved(nn.Module):
    """Has a submodule whose name torch.fx keeps for itself."""

    def __init__(self) -> None:
        super().__init__()
        self.code = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.code(x)


def test_a_reserved_name_is_said() -> None:
    with pytest.raises(NotExportable, match=r"code\.weight.*[Rr]ename"):
        trace(Reserved(), torch.randn(2, 4))


def test_a_program_that_differs_from_its_model_is_refused() -> None:
    class Exported(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if torch.compiler.is_exporting() else x * 3

    with pytest.raises(NotExportable, match="differs from the model"):
        trace(Exported(), torch.randn(2, 4))
