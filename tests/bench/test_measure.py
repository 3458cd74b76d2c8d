from __future__ import annotations

import json
import random
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from secateur.bench import Effort, Entry, FakeDevice, Measurement, measure, peak_memory
from secateur.bench.fake import FakeRunner
from secateur.errors import CorruptFile, InputError, UnknownName

X = torch.zeros(2, 3)
DENSE, SMALL = (
    Entry("dense-fp32", Path("dense.onnx")),
    Entry("pruned-fp32", Path("pruned.onnx"), predicted_ms=3.5),
)
KEYS = set(
    """phase artifact path runtime dtype device threads batch median_ms p95_ms interval_ms reference ratio
    ratio_interval samples loaded predicted_ms""".split()
)


def steady(entry: Entry, turn: int) -> float:
    return 10.0 if entry is DENSE else 4.0


def test_a_steady_machine_gives_exact_figures() -> None:
    device = FakeDevice(steady)
    dense, small = measure([DENSE, SMALL], X, device=device, threads=2, phase="final")
    assert (dense.median_ms, dense.interval_ms, dense.reference, dense.ratio) == (
        10.0,
        (10.0, 10.0),
        None,
        None,
    )
    assert (small.ratio, small.ratio_interval, small.reference) == (0.4, (0.4, 0.4), "dense-fp32")
    assert (small.batch, small.threads, small.device, small.phase) == (2, 2, "fake", "final")
    assert small.predicted_ms == 3.5 and not small.loaded
    assert device.opened == device.closed == 1


def test_it_stops_as_soon_as_the_interval_is_narrow_and_goes_on_while_it_is_not() -> None:
    effort = Effort(min_turns=10, max_turns=60)
    noise = random.Random(0)
    quiet, _ = measure([DENSE, SMALL], X, device=FakeDevice(steady), effort=effort)
    noisy, _ = measure(
        [DENSE, SMALL],
        X,
        device=FakeDevice(lambda e, t: steady(e, t) * noise.uniform(0.8, 1.2)),
        effort=effort,
    )
    assert quiet.samples == 10 * 4  # four runs of 10 ms fill a window
    assert noisy.samples > 40 * 4


def test_drift_cancels_in_the_ratio() -> None:
    device = FakeDevice(lambda entry, turn: steady(entry, turn) * (1 + turn / 20))
    _, small = measure([DENSE, SMALL], X, device=device)
    assert small.ratio == pytest.approx(0.4)
    assert small.ratio_interval == pytest.approx((0.4, 0.4))


def test_disturbed_windows_are_left_out_and_counted() -> None:
    def spells(entry: Entry, turn: int) -> float:
        return steady(entry, turn) * (3 if entry is DENSE and turn % 5 == 2 else 1)

    dense, small = measure([DENSE, SMALL], X, device=FakeDevice(spells), effort=Effort(min_turns=20))
    assert dense.discarded == 4 and small.discarded == 0
    assert dense.median_ms == dense.p95_ms == 10.0 and dense.samples == 16 * 4
    assert small.ratio_interval == (0.4, 0.4)
    assert not dense.loaded


def test_a_machine_disturbed_too_often_is_loaded() -> None:
    dense, _ = measure([DENSE, SMALL], X, device=FakeDevice(lambda e, t: 10.0 * (1 + 2 * (t % 3 == 0))))
    assert dense.loaded
    assert measure([DENSE], X, device=FakeDevice(steady, loaded=True))[0].loaded


def test_a_processor_shared_with_others_does_not_favour_short_runs() -> None:
    class Shared(FakeRunner):
        """Every 8 ms of work, another process takes the processor for 4 ms."""

        used = 0.0

        def window(self, runs: int) -> list[float]:
            times = []
            for _ in range(runs):
                before, self.used = self.used, self.used + steady(self.entry, 0) / 10
                times.append(self.used - before + 4.0 * (self.used // 8 - before // 8))
            return times

    class SharedDevice(FakeDevice):
        @contextmanager
        def open(self, entries, inputs, threads):
            yield [Shared(entry, steady) for entry in entries]

    steps = Effort(min_turns=40, max_turns=40)
    _, small = measure([DENSE, SMALL], X, device=SharedDevice(steady), effort=steps)
    assert small.ratio == pytest.approx(0.4, rel=0.05)


def test_windows_alternate_in_a_changing_order() -> None:
    device = FakeDevice(steady)
    measure([DENSE, SMALL], X, device=device, effort=Effort(min_turns=12, window_seconds=0.01, min_runs=1))
    runs = device.order[-24:]
    turns = [tuple(runs[i : i + 2]) for i in range(0, 24, 2)]
    assert all(set(turn) == {"dense-fp32", "pruned-fp32"} for turn in turns)
    assert len(set(turns)) == 2


def test_the_reference_may_be_any_entry() -> None:
    dense, small = measure([DENSE, SMALL], X, reference="pruned-fp32", device=FakeDevice(steady))
    assert dense.ratio == 2.5 and small.ratio is None


def test_wrong_requests_are_refused_before_anything_runs() -> None:
    device = FakeDevice(steady)
    with pytest.raises(UnknownName, match=r"'other'.*dense-fp32"):
        measure([DENSE], X, reference="other", device=device)
    with pytest.raises(InputError, match="different names"):
        measure([DENSE, DENSE], X, device=device)
    with pytest.raises(InputError):
        measure([], X, device=device)
    assert device.opened == 0


def test_the_device_is_closed_when_timing_fails() -> None:
    def fails(entry: Entry, turn: int) -> float:
        raise KeyboardInterrupt

    device = FakeDevice(fails)
    with pytest.raises(KeyboardInterrupt):
        measure([DENSE], X, device=device)
    assert device.closed == 1


def test_memory_is_the_runners(tmp_path: Path) -> None:
    assert peak_memory(DENSE, X, device=FakeDevice(steady, peak=123)) == 123


def test_the_record_has_the_keys_of_the_run_folder_and_survives_json() -> None:
    for record in measure([DENSE, SMALL], X, device=FakeDevice(steady)):
        line = json.dumps(record.to_json())
        assert set(json.loads(line)) == KEYS
        assert Measurement.from_json(json.loads(line)) == record
    with pytest.raises(CorruptFile, match="median_ms"):
        Measurement.from_json({k: v for k, v in record.to_json().items() if k != "median_ms"})
