from __future__ import annotations

import io
import json
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from secateur.deploy import check_pt2, export_pt2, load_pt2, runtimes
from secateur.errors import CorruptFile, UnsafeFile


@pytest.fixture
def pt2(convs: nn.Module, tmp_path: Path) -> Path:
    return export_pt2(convs, torch.randn(1, 3, 8, 8), tmp_path / "model.pt2")


class Evil:
    """Leaves a file behind when unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.mark), "w")


def rewritten(
    source: Path, destination: Path, change: Callable[[str, bytes], bytes | None], **extra: bytes
) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(destination, "w") as new:
        for info in old.infolist():
            name = info.filename.partition("/")[2]
            data = change(name, old.read(info))
            if data is not None:
                new.writestr(info.filename, data)
        for name, data in extra.items():
            new.writestr(f"model/{name.replace('__', '/')}", data)
    return destination


def test_it_runs_with_any_batch_and_carries_no_pickle(convs: nn.Module, pt2: Path) -> None:
    session = runtimes["torch"].load(pt2)
    for n in (1, 4):
        x = torch.randn(n, 3, 8, 8)
        torch.testing.assert_close(session(x), convs(x))
    with zipfile.ZipFile(pt2) as archive:
        for name in archive.namelist():
            data = archive.read(name)
            assert not (name.endswith(".pt") and data)
            assert b'File \\"' not in data
    assert torch.export.load(pt2).module()(torch.randn(3, 3, 8, 8)).shape == (3, 4)


def test_a_program_saved_by_torch_itself_is_read_with_its_example_inputs(
    convs: nn.Module, tmp_path: Path
) -> None:
    x = torch.randn(2, 3, 8, 8)
    batch = ({0: torch.export.Dim("n")},)
    torch.export.save(torch.export.export(convs, (x,), dynamic_shapes=batch), tmp_path / "plain.pt2")
    loaded = load_pt2(tmp_path / "plain.pt2")
    assert torch.equal(loaded.example_inputs, x)
    y = torch.randn(5, 3, 8, 8)
    torch.testing.assert_close(loaded.program.module()(y), convs(y))


def test_reading_it_does_not_need_the_class_of_the_outputs(tmp_path: Path) -> None:
    class Named(OrderedDict):
        pass

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> Named:
            return Named(logits=self.linear(x), hidden=x)

    torch.utils._pytree.register_pytree_node(
        Named,
        lambda d: (list(d.values()), list(d)),
        lambda values, keys: Named(zip(keys, values, strict=True)),
        serialized_type_name=f"{__name__}.Named",
    )
    model, x = Model(), torch.randn(4, 3)
    graph = torch.export.export(model, (x,)).module(check_guards=False)
    for form in (model, graph):
        path = export_pt2(form, x[:1], tmp_path / "named.pt2")
        assert b"Named" not in path.read_bytes()
        loaded = load_pt2(path)
        assert list(loaded.program.state_dict) == list(model.state_dict())
        outputs = loaded.program.module()(x)
        assert type(outputs) is dict and list(outputs) == ["logits", "hidden"]
        torch.testing.assert_close(outputs["logits"], model(x)["logits"])
    assert type(graph(x)) is Named


def test_pickled_example_inputs_are_refused_and_not_run(pt2: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for archive in (True, False):
        buffer = io.BytesIO()
        torch.save(((Evil(mark),), {}), buffer, _use_new_zipfile_serialization=archive)
        payload = buffer.getvalue()
        bad = rewritten(pt2, tmp_path / "bad.pt2", lambda n, d, p=payload: p if n.endswith("model.pt") else d)
        for reader in (check_pt2, load_pt2):
            with pytest.raises(UnsafeFile, match="unpickling"):
                reader(bad)
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["weights", "constants"])
def test_pickled_payloads_are_refused(pt2: Path, tmp_path: Path, kind: str) -> None:
    def change(name: str, data: bytes) -> bytes:
        if name == f"data/{kind}/model_{kind}_config.json":
            entry = {"path_name": "weight_0", "use_pickle": True, "is_param": False, "tensor_meta": None}
            return json.dumps({"config": {"first.weight": entry}}).encode()
        return data

    with pytest.raises(UnsafeFile, match=r"'first\.weight' as a pickled payload"):
        check_pt2(rewritten(pt2, tmp_path / "bad.pt2", change))


@pytest.mark.parametrize(
    "record",
    [
        "data__constants__custom_obj_0",
        "data__constants__opaque_obj_0",
        "data__weights__model.pt",
        "data__aotinductor__model__m.so",
    ],
)
def test_records_that_are_unpickled_or_executed_are_refused(pt2: Path, tmp_path: Path, record: str) -> None:
    with pytest.raises(UnsafeFile, match="carries"):
        check_pt2(rewritten(pt2, tmp_path / "bad.pt2", lambda n, d: d, **{record: b"x"}))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Symbol('", b"__import__('os').system('"),
        (b"Symbol('", b"open('"),
        (b"torch.ops.aten.relu.default", b"torch.hub.load"),
        (b"torch.ops.aten.relu.default", b"torch._C._pickle_load_obj"),
    ],
)
def test_code_hidden_in_the_program_is_refused(pt2: Path, tmp_path: Path, old: bytes, new: bytes) -> None:
    changed = []

    def change(name: str, data: bytes) -> bytes:
        if name.startswith("models/"):
            changed.append(old in data)
            return data.replace(old, new)
        return data

    with pytest.raises(UnsafeFile, match=r"no (arithmetic|operator of torch)"):
        check_pt2(rewritten(pt2, tmp_path / "bad.pt2", change))
    assert changed == [True]


def test_damaged_files_are_told_apart(pt2: Path, tmp_path: Path) -> None:
    content = pt2.read_bytes()
    for bad in (b"", b"no archive", content[: len(content) // 2]):
        (tmp_path / "bad.pt2").write_bytes(bad)
        with pytest.raises(CorruptFile):
            load_pt2(tmp_path / "bad.pt2")
    flipped = bytearray(content)
    flipped[content.index(b"weight_0") + 200] ^= 255
    (tmp_path / "bad.pt2").write_bytes(flipped)
    with pytest.raises(CorruptFile):
        load_pt2(tmp_path / "bad.pt2")
    with pytest.raises(CorruptFile, match="no exported program"):
        check_pt2(rewritten(pt2, tmp_path / "bad.pt2", lambda n, d: None if n.startswith("models/") else d))
    with pytest.raises(CorruptFile):
        check_pt2(tmp_path / "missing.pt2")
