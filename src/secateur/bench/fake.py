"""A device for tests: times are a function of the artifact and the turn, and nothing runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from secateur.bench.device import Device, NodeTimes, Runner
from secateur.bench.measurement import Entry
from secateur.task import Inputs

Times = Callable[[Entry, int], float]
Nodes = Callable[[Entry], Sequence[tuple[str, str, tuple[tuple[int, ...], ...], float]]]


@dataclass
class FakeRunner(Runner):
    """Answers with ``times(entry, turn)`` for every run of its ``turn``-th window, warm-up excluded."""

    entry: Entry
    times: Times
    peak: int = 0
    turn: int = -1
    asked: list[int] = field(default_factory=list)
    parts: Nodes | None = None

    def window(self, runs: int) -> list[float]:
        self.asked.append(runs)
        self.turn += 1
        return [self.times(self.entry, max(0, self.turn - 1))] * runs

    def nodes(self) -> list[NodeTimes]:
        if self.parts is None:
            return super().nodes()
        runs = sum(self.asked)
        return [NodeTimes(op, name, shapes, (ms,) * runs) for op, name, shapes, ms in self.parts(self.entry)]

    def peak_bytes(self) -> int:
        return self.peak


class FakeDevice(Device):
    """A public test double where hardware would be.

    Args:
        times: milliseconds of a run of an entry in a turn, such as ``lambda entry, turn: entry.path.stat().st_size``.
        loaded: what it says about other work.
        peak: what every runner says about its memory, in bytes.
        nodes: operators of an entry: kernel, name, shapes and milliseconds of each; it tells none without.

    ``opened`` and ``closed`` count how often it was used, ``order`` lists whose windows ran, in order.
    """

    name = "fake"

    def __init__(self, times: Times, loaded: bool = False, peak: int = 0, nodes: Nodes | None = None) -> None:
        self.times, self.peak, self._loaded, self.nodes = times, peak, loaded, nodes
        self.tells_operators = nodes is not None
        self.opened = self.closed = 0
        self.order: list[str] = []

    @contextmanager
    def open(
        self, entries: Sequence[Entry], inputs: Inputs, threads: int, *, profile: bool = False
    ) -> Iterator[list[Runner]]:
        self.opened += 1
        parts = self.nodes if profile else None
        try:
            yield [FakeRunner(entry, self._logged, self.peak, parts=parts) for entry in entries]
        finally:
            self.closed += 1

    def watch(self, runners: Sequence[Runner]) -> Callable[[], bool]:
        return lambda: self._loaded

    def _logged(self, entry: Entry, turn: int) -> float:
        self.order.append(entry.artifact)
        return self.times(entry, turn)
