"""Times artifacts in turn until the figures are sharp enough, or the time is up.

A turn gives every artifact one short window of runs, in an order that changes from turn to turn; the others sleep. What
slows the machine for longer than a turn slows all of them, and cancels in the ratio of two windows of the same turn.
What comes and goes within a turn shows as a window far slower than its neighbours in time; such windows do not count.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from secateur.bench.cores import default_threads
from secateur.bench.device import Device, Runner
from secateur.bench.intervals import bootstrap_interval, paired_ratio, quantile, undisturbed
from secateur.bench.local import LocalDevice
from secateur.bench.measurement import Entry, Measurement
from secateur.deploy import batch_size
from secateur.errors import InputError, UnknownName
from secateur.task import Inputs

DISTURBED_SHARE = 0.25


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Args:
        width: stop once the widest interval, relative to its figure, is as narrow as this.
        min_turns, max_turns: turns at least and at most.
        seconds: stop after this long in any case, once ``min_turns`` are done.
        window_seconds: length of a window; at least ``min_runs`` runs are made in each.
        min_runs, max_runs: runs in a window.
        warmup_seconds: running before the first turn, for each artifact.
    """

    width: float = 0.03
    min_turns: int = 15
    max_turns: int = 400
    seconds: float = 20.0
    window_seconds: float = 0.04
    min_runs: int = 3
    max_runs: int = 500
    warmup_seconds: float = 0.2


@dataclass
class _Track:
    """The windows of one artifact so far."""

    entry: Entry
    runner: Runner
    runs: int = 1
    windows: list[list[float]] = field(default_factory=list)

    def speeds(self) -> np.ndarray:
        """Mean milliseconds of a run, window by window. Means, because windows last about equally long: whatever
        takes processor time from all of them slows their means by the same factor, while medians of short runs
        would not show a preemption that lengthens every long run."""
        return np.mean(np.asarray(self.windows), axis=1)


def measure(
    entries: Sequence[Entry],
    inputs: Inputs,
    *,
    reference: str | None = None,
    device: Device | None = None,
    threads: int | None = None,
    phase: str = "bench",
    effort: Effort | None = None,
    seed: int = 0,
) -> list[Measurement]:
    """Measured latency of every entry, in the order given.

    Args:
        entries: artifacts with different names.
        inputs: what they are run on; axis 0 of every tensor is the batch.
        reference: the name of the entry that the others are compared with; the first by default, none if alone.
        device: this machine by default.
        threads: of each artifact; as many as there are physical cores by default.
        phase: recorded as it is.
        effort: how long to measure.
        seed: of the order of the turns and of the bootstrap.

    Raises:
        InputError: no entries, two of the same name, or a missing file.
        UnknownName: the reference is none of the entries.
        SecateurError: an artifact's process stopped; the message names it.
    """
    names = [entry.artifact for entry in entries]
    if not names or len(set(names)) != len(names):
        raise InputError(f"measuring needs artifacts with different names; got {names}")
    if reference is None:
        reference = names[0]
    if reference not in names:
        raise UnknownName(f"no artifact {reference!r} to compare with; there are {', '.join(names)}")
    device, threads, effort = device or LocalDevice(), threads or default_threads(), effort or Effort()
    with device.open(entries, inputs, threads) as runners:
        tracks = [_Track(entry, runner) for entry, runner in zip(entries, runners, strict=True)]
        loaded = device.watch(runners)
        base = tracks[names.index(reference)]
        _run_turns(tracks, base, effort, seed)
        busy = loaded()
    return [
        _record(track, base, phase, device.name, threads, batch_size(inputs), busy, seed) for track in tracks
    ]


def peak_memory(
    entry: Entry, inputs: Inputs, *, device: Device | None = None, threads: int | None = None, runs: int = 5
) -> int:
    """Peak memory of an artifact's process above that of the empty runtime, in bytes, over a few runs.

    Raises:
        SecateurError: see :func:`measure`.
    """
    device, threads = device or LocalDevice(), threads or default_threads()
    with device.open([entry], inputs, threads) as (runner,):
        runner.window(runs)
        return runner.peak_bytes()


def _run_turns(tracks: list[_Track], base: _Track, effort: Effort, seed: int) -> None:
    for track in tracks:
        track.runs = sized_window(track.runner, effort)
    order = random.Random(seed)
    start = time.perf_counter()
    turns, check = 0, effort.min_turns
    while turns < effort.max_turns:
        for track in order.sample(tracks, len(tracks)):
            track.windows.append(track.runner.window(track.runs))
        turns += 1
        if turns < effort.min_turns:
            continue
        if time.perf_counter() - start >= effort.seconds:
            return
        if turns >= check:
            if _width(tracks, base, seed) <= effort.width:
                return
            check = turns + max(1, turns // 4)  # the bootstrap takes time; intervals shrink slowly


def sized_window(runner: Runner, effort: Effort) -> int:
    """Runs until caches, pools and the clock have settled; how many runs fill a window."""
    first = runner.window(1)[0] / 1e3
    runs = max(1, min(effort.max_runs, round(effort.warmup_seconds / max(first, 1e-6))))
    times = runner.window(runs) if first < effort.warmup_seconds else [first * 1e3]
    seconds = quantile(times, 0.5) / 1e3
    return int(min(effort.max_runs, max(effort.min_runs, round(effort.window_seconds / max(seconds, 1e-6)))))


def _counting(track: _Track, base: _Track) -> tuple[np.ndarray, np.ndarray]:
    """Turns in which the track's window counts, and those in which the reference's does too."""
    own = undisturbed(track.speeds())
    return own, own & undisturbed(base.speeds())


def _width(tracks: list[_Track], base: _Track, seed: int) -> float:
    """The widest relative interval: of ratios, or of the median where there is but one artifact."""
    widest = 0.0
    for track in tracks:
        own, both = _counting(track, base)
        if len(tracks) == 1:
            low, high = bootstrap_interval(np.asarray(track.windows)[own], seed=seed)
            middle = quantile(track.speeds()[own], 0.5)
        elif track is base or not both.any():
            continue
        else:
            middle, (low, high) = paired_ratio(track.speeds()[both], base.speeds()[both])
        widest = max(widest, (high - low) / middle if middle else 0.0)
    return widest


def _record(
    track: _Track, base: _Track, phase: str, device: str, threads: int, batch: int, busy: bool, seed: int
) -> Measurement:
    own, both = _counting(track, base)
    windows = np.asarray(track.windows)[own]
    ratio, interval = None, None
    if track is not base:
        both = both if both.any() else own  # every turn disturbed: say what was seen; `loaded` tells
        ratio, interval = paired_ratio(track.speeds()[both], base.speeds()[both])
    discarded = int(len(own) - own.sum())
    entry = track.entry
    return Measurement(
        phase=phase,
        artifact=entry.artifact,
        path=str(entry.path),
        runtime=entry.runtime,
        dtype=entry.dtype,
        device=device,
        threads=threads,
        batch=batch,
        median_ms=quantile(windows, 0.5),
        p95_ms=quantile(windows, 0.95),
        interval_ms=bootstrap_interval(windows, seed=seed),
        reference=None if track is base else base.entry.artifact,
        ratio=ratio,
        ratio_interval=interval,
        samples=int(windows.size),
        loaded=busy or discarded > DISTURBED_SHARE * len(own),
        predicted_ms=entry.predicted_ms,
        discarded=discarded,
    )
