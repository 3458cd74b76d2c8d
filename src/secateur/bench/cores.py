"""Which processor this is, which of its cores are ours, and whether others are busy on them."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

BUSY_SHARE = 0.15


def available_cores() -> list[int]:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def physical_cores() -> list[int]:
    """One of the available cores for each physical one: hardware threads share the units that arithmetic needs."""
    seen: set[str] = set()
    chosen = []
    for core in available_cores():
        siblings = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
        try:
            key = siblings.read_text().strip()
        except OSError:
            key = str(core)
        if key not in seen:
            seen.add(key)
            chosen.append(core)
    return chosen


def processor_name() -> str:
    """The processor's model, as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # another system
    return platform.processor() or platform.machine()


def default_threads() -> int:
    """As many threads as there are physical cores available, within the quota of the control group."""
    cores = len(physical_cores())
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass  # no quota is set
    return cores


@dataclass
class Load:
    """Processor time that others took on our cores between ``start`` and now.

    Args:
        processes: ids of the processes that are ours besides this one.
    """

    processes: Sequence[int] = ()
    _busy: float = field(default=0.0, init=False)
    _own: float = field(default=0.0, init=False)
    _clock: float = field(default=0.0, init=False)

    def start(self) -> None:
        self._busy, self._own, self._clock = _busy_seconds(), self._own_seconds(), time.perf_counter()

    def loaded(self) -> bool:
        """Whether others took more than 15 % of our cores; by the load average where ``/proc`` does not tell."""
        elapsed = time.perf_counter() - self._clock
        cores = len(available_cores())
        busy = _busy_seconds() - self._busy
        if busy > 0 and elapsed > 0:
            others = busy - (self._own_seconds() - self._own)
            return others > BUSY_SHARE * cores * elapsed
        if hasattr(os, "getloadavg"):
            return os.getloadavg()[0] > cores + 0.5
        return False

    def _own_seconds(self) -> float:
        return sum(_process_seconds(pid) for pid in (os.getpid(), *self.processes))


def _busy_seconds() -> float:
    """Seconds that our cores have been busy since boot, for whomever; 0 where that is not known."""
    cores = {f"cpu{core}" for core in available_cores()}
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return 0.0
    ticks = 0
    for line in lines:
        name, *values = line.split()
        if name in cores:  # user nice system idle iowait irq softirq steal
            ticks += sum(int(value) for index, value in enumerate(values[:8]) if index not in (3, 4))
    return ticks / _ticks_per_second()


def _process_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _ticks_per_second()


def _ticks_per_second() -> int:
    return os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
