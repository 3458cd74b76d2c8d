"""A device for tests: times are a function of the artifact and the turn, and nothing runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from secateur.bench.device import Device, Runner
from secateur.bench.measurement import Entry
from secateur.task import Inputs

Times = Callable[[Entry, int], float]


@dataclass
class FakeRunner(Runner):
    """Answers with ``times(entry, turn)`` for every run of its ``turn``-th window, warm-up excluded."""

    entry: Entry
    times: Times
    peak: int = 0
    turn: int = -1
    asked: list[int] = field(default_factory=list)

    def window(self, runs: int) -> list[float]:
        self.asked.append(runs)
        self.turn += 1
        return [self.times(self.entry, max(0, self.turn - 1))] * runs

    def peak_bytes(self) -> int:
        return self.peak


class FakeDevice(Device):
    """A public test double where hardware would be.

    Args:
        times: milliseconds of a run of an entry in a turn, such as ``lambda entry, turn: entry.path.stat().st_size``.
        loaded: what it says about other work.
        peak: what every runner says about its memory, in bytes.

    ``opened`` and ``closed`` count how often it was used, ``order`` lists whose windows ran, in order.
    """

    name = "fake"

    def __init__(self, times: Times, loaded: bool = False, peak: int = 0) -> None:
        self.times, self.peak, self._loaded = times, peak, loaded
        self.opened = self.closed = 0
        self.order: list[str] = []

    @contextmanager
    def open(self, entries: Sequence[Entry], inputs: Inputs, threads: int) -> Iterator[list[Runner]]:
        self.opened += 1
        try:
            yield [FakeRunner(entry, self._logged, self.peak) for entry in entries]
        finally:
            self.closed += 1

    def watch(self, runners: Sequence[Runner]) -> Callable[[], bool]:
        return lambda: self._loaded

    def _logged(self, entry: Entry, turn: int) -> float:
        self.order.append(entry.artifact)
        return self.times(entry, turn)
