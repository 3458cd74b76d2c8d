from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from secateur.bench import Effort, Entry, LocalDevice, default_threads, measure, peak_memory, worker
from secateur.bench.cores import Load, available_cores, physical_cores
from secateur.deploy import export_onnx, export_pt2
from secateur.errors import InputError, SecateurError

QUICK = Effort(min_turns=3, max_turns=3, window_seconds=0.002, warmup_seconds=0.002)
X = torch.zeros(1, 8)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Entry:
    path = tmp_path_factory.mktemp("bench") / "small.onnx"
    return Entry("small", export_onnx(nn.Linear(8, 2), X, path))


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_two_runtimes_are_timed_side_by_side(small: Entry, tmp_path: Path) -> None:
    program = Entry("program", export_pt2(nn.Linear(8, 2), X, tmp_path / "p.pt2"), runtime="torch")
    first, second = measure([small, program], X, threads=1, effort=QUICK)
    assert first.device == "local" and first.batch == 1
    assert 0 < first.interval_ms[0] <= first.median_ms <= first.p95_ms
    assert second.reference == "small" and second.ratio is not None and second.ratio > 0


def test_inputs_by_keyword(tmp_path: Path) -> None:
    class Sum(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return a + b

    inputs = {"a": torch.zeros(2, 3), "b": torch.ones(2, 3)}
    path = export_onnx(Sum(), inputs, tmp_path / "sum.onnx")
    (record,) = measure([Entry("sum", path)], inputs, threads=1, effort=QUICK)
    assert record.batch == 2 and record.samples > 0


def test_workers_end_with_the_measurement_even_when_it_is_interrupted(small: Entry) -> None:
    with pytest.raises(KeyboardInterrupt), LocalDevice().open([small, small], X, 1) as runners:
        pids = [runner.process_id for runner in runners]
        assert not any(gone(pid) for pid in pids)
        raise KeyboardInterrupt
    assert all(gone(pid) for pid in pids)


def test_a_worker_whose_parent_is_gone_ends(small: Entry) -> None:
    with LocalDevice().open([small], X, 1) as (runner,):
        runner._process.stdin.close()
        assert runner._process.wait(10) == 0


def test_an_artifact_that_cannot_be_loaded_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(SecateurError, match=r"timing bad \(.*bad\.onnx\) stopped: .*Protobuf"):
        measure([Entry("bad", tmp_path / "bad.onnx")], X, effort=QUICK)
    with pytest.raises(InputError, match=r"no artifact .*none\.onnx"):
        measure([Entry("none", tmp_path / "none.onnx")], X, effort=QUICK)


def test_a_worker_that_dies_or_hangs_is_told(small: Entry) -> None:
    with LocalDevice().open([small], X, 1) as (runner,):
        runner._process.kill()
        with pytest.raises(SecateurError, match=r"small .* ended with status -9"):
            runner.window(1)
    with (
        pytest.raises(SecateurError, match="no answer within"),
        LocalDevice(patience=0.0).open([small], X, 1),
    ):
        pass


def test_inputs_that_the_artifact_does_not_take_are_told(small: Entry) -> None:
    with pytest.raises(SecateurError, match="timing small"):
        measure([small], torch.zeros(1, 9), effort=QUICK)


def test_memory_grows_with_the_artifact(small: Entry, tmp_path: Path) -> None:
    big = Entry("big", export_onnx(nn.Linear(2000, 2000), torch.zeros(1, 2000), tmp_path / "big.onnx"))
    assert peak_memory(big, torch.zeros(1, 2000), threads=1) > peak_memory(small, X, threads=1) + 8_000_000


def test_the_worker_imports_neither_torch_nor_secateur() -> None:
    code = (
        f"import runpy, sys; runpy.run_path({worker.__file__!r}); "
        "print(sorted(m for m in sys.modules if m.split('.')[0] in ('torch', 'secateur')))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_cores_and_threads() -> None:
    assert set(physical_cores()) <= set(available_cores())
    assert 1 <= default_threads() <= len(available_cores())


def test_our_own_work_is_no_load(monkeypatch: pytest.MonkeyPatch) -> None:
    from secateur.bench import cores

    clock = {"busy": 0.0, "own": 0.0, "now": 0.0}
    monkeypatch.setattr(cores, "_busy_seconds", lambda: clock["busy"])
    monkeypatch.setattr(cores, "_process_seconds", lambda pid: clock["own"])
    monkeypatch.setattr(cores, "available_cores", lambda: [0, 1])
    monkeypatch.setattr(cores.time, "perf_counter", lambda: clock["now"])
    load = Load()
    load.start()
    clock.update(busy=10.0, own=9.9, now=10.0)
    assert not load.loaded()
    clock.update(own=5.0)
    assert load.loaded()
