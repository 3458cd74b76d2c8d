from __future__ import annotations

import os
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from secateur.deploy import export_onnx, extras, runtimes
from secateur.errors import InputError, MissingExtra, NotExportable, RunFolderError

RUNTIME = runtimes["onnxruntime"]


def test_the_batch_is_free_and_the_outputs_agree(convs: nn.Module, onnx_file: Path) -> None:
    session = RUNTIME.load(onnx_file)
    assert session.batch is None
    for n in (1, 5):
        x = torch.randn(n, 3, 8, 8)
        torch.testing.assert_close(session(x), convs(x), rtol=1e-4, atol=1e-5)


def test_keyword_inputs_keep_their_names_and_dict_outputs_their_keys(
    tokens: nn.Module, sentences, tmp_path: Path
) -> None:
    batch = {k: v for k, v in sentences[0].items() if k != "labels"}
    path = export_onnx(tokens, batch, tmp_path / "t.onnx")
    graph = onnx.load(path).graph
    assert {value.name for value in graph.input} == {"input_ids", "mask"}
    outputs = RUNTIME.load(path)(batch)
    assert list(outputs) == ["hidden", "logits"]
    torch.testing.assert_close(outputs["logits"], tokens(**batch)["logits"], rtol=1e-4, atol=1e-5)


def test_a_tuple_of_inputs_and_a_tuple_of_outputs(tmp_path: Path) -> None:
    class Two(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
            return a + b, a * b

    inputs = (torch.randn(1, 3), torch.randn(1, 3))
    path = export_onnx(Two(), inputs, tmp_path / "two.onnx")
    assert [value.name for value in onnx.load(path).graph.input] == ["input_0", "input_1"]
    batch = (torch.randn(4, 3), torch.randn(4, 3))
    outputs = RUNTIME.load(path)(batch)
    torch.testing.assert_close(outputs["output_0"], batch[0] + batch[1])
    torch.testing.assert_close(outputs["output_1"], batch[0] * batch[1])


def test_an_exported_graph_module_exports_again(convs: nn.Module, tmp_path: Path) -> None:
    x = torch.randn(2, 3, 8, 8)
    again = torch.export.export(convs, (x,)).module(check_guards=False)
    path = export_onnx(again, x[:1], tmp_path / "again.onnx")
    y = torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(RUNTIME.load(path)(y), convs(y), rtol=1e-4, atol=1e-5)


def test_a_model_with_its_batch_written_out_gets_a_fixed_batch(tmp_path: Path) -> None:
    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(1, 12) * 2

    session = RUNTIME.load(export_onnx(Fixed(), torch.randn(1, 3, 4), tmp_path / "fixed.onnx"))
    assert session.batch == 1
    x = torch.randn(5, 3, 4)
    torch.testing.assert_close(session(x), x.reshape(5, 12) * 2)  # run one by one


def test_the_model_stays_as_it_was(convs: nn.Module, tmp_path: Path) -> None:
    convs.train()
    before = {k: v.clone() for k, v in convs.state_dict().items()}
    export_onnx(convs, torch.randn(4, 3, 8, 8), tmp_path / "m.onnx")
    assert convs.training and convs.norm.training
    assert all(torch.equal(before[k], v) for k, v in convs.state_dict().items())


def test_the_file_does_not_tell_where_it_was_made(onnx_file: Path) -> None:
    content = onnx_file.read_bytes()
    assert (
        b'File "' not in content and b"site-packages" not in content and os.getcwd().encode() not in content
    )


def test_nothing_is_printed(
    convs: nn.Module, tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn
) -> None:
    export_onnx(convs, torch.randn(1, 3, 8, 8), tmp_path / "m.onnx")
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_a_model_without_an_exported_form_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(NotExportable, match="refuses"):
        export_onnx(Branch(), torch.randn(1, 3), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(convs: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match=r"cannot write .*file"):
        export_onnx(convs, torch.randn(1, 3, 8, 8), tmp_path / "file" / "m.onnx")


def test_a_missing_extra_says_how_to_install_it(
    convs: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(package: str) -> None:
        raise ImportError(package)

    monkeypatch.setattr(extras.importlib, "import_module", missing)
    with pytest.raises(MissingExtra, match=r"secateur\[onnx\]"):
        export_onnx(convs, torch.randn(1, 3, 8, 8), tmp_path / "m.onnx")


def test_wrong_inputs_to_an_artifact_are_one_line(onnx_file: Path) -> None:
    with pytest.raises(InputError) as caught:
        RUNTIME.load(onnx_file)(torch.randn(2, 5, 8, 8))
    assert "\n" not in str(caught.value)
