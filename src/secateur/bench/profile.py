"""Where an artifact's time goes, operator by operator, as its runtime runs it: fused, in place, caches as they are.

An operator alone, run in a loop, finds its weights in the cache; inside of a network it does not. So operators are
timed where they stand. Every figure is a share of what a reference takes in the same turn, so that the machine's drift
cancels, and the network is timed without the profiler too, whose own cost is not the network's.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from secateur.bench.cores import default_threads
from secateur.bench.device import Device, NodeTimes, Runner
from secateur.bench.intervals import Interval, paired_ratio, quantile, undisturbed
from secateur.bench.local import LocalDevice
from secateur.bench.measure import Effort, sized_window
from secateur.bench.measurement import Entry
from secateur.task import Inputs


@dataclass(frozen=True)
class Node:
    """One operator.

    Args:
        op: the runtime's name of the kernel.
        name: the node's own.
        shapes: of its inputs and then its outputs.
        share: what it takes, as a share of the reference's whole time.
    """

    op: str
    name: str
    shapes: tuple[tuple[int, ...], ...]
    share: float


@dataclass(frozen=True)
class Profile:
    """An artifact in parts.

    Args:
        ratio: its time without the profiler over the reference's, paired; 1 for the reference itself.
        interval: the 95 % bootstrap interval of the ratio.
        reference_ms: median of the reference.
        nodes: in the order in which they run.
        loaded: whether other work kept the machine busy.
    """

    ratio: float
    interval: Interval
    reference_ms: float
    nodes: tuple[Node, ...]
    loaded: bool


def profile(
    entry: Entry,
    inputs: Inputs,
    *,
    reference: Entry,
    device: Device | None = None,
    threads: int | None = None,
    effort: Effort | None = None,
    seed: int = 0,
) -> Profile:
    """Times an artifact and each of its operators, in turn with a reference.

    Args:
        entry: what to take apart; it may be the reference.
        inputs: axis 0 of every tensor is the batch.
        reference: in whose time everything is said.
        device: this machine by default.
        threads: as many as there are physical cores by default.
        effort: how long.
        seed: of the order of the turns.

    Raises:
        InputError: the device or the runtime does not tell the times of operators.
        SecateurError: a process stopped.
    """
    device, threads, effort = device or LocalDevice(), threads or default_threads(), effort or Effort()
    plain = [reference] if entry == reference else [reference, entry]
    with ExitStack() as stack:
        runners = list(stack.enter_context(device.open(plain, inputs, threads)))
        (taken_apart,) = stack.enter_context(device.open([entry], inputs, threads, profile=True))
        runners.append(taken_apart)
        loaded = device.watch(runners)
        windows, runs = _turns(runners, effort, seed)
        busy = loaded()
        nodes = taken_apart.nodes()
    speeds = np.array([[np.mean(w) for w in turn] for turn in windows])  # [turns, runners]
    steady = undisturbed(speeds[:, 0]) & undisturbed(speeds[:, -1])
    steady = steady if steady.any() else np.ones_like(steady)
    ratio, interval = 1.0, (1.0, 1.0)
    if len(runners) == 3:
        ratio, interval = paired_ratio(speeds[steady, 1], speeds[steady, 0])
    return Profile(
        ratio,
        interval,
        quantile(speeds[steady, 0], 0.5),
        tuple(_in_shares(node, runs, speeds[:, 0], steady) for node in nodes),
        busy,
    )


def _turns(runners: Sequence[Runner], effort: Effort, seed: int) -> tuple[list[list[list[float]]], int]:
    """Windows turn by turn, and how many runs the last runner's windows have."""
    order, sizes = random.Random(seed), [sized_window(r, effort) for r in runners]
    windows: list[list[list[float]]] = []
    start = time.perf_counter()
    while len(windows) < effort.min_turns or (
        len(windows) < effort.max_turns and time.perf_counter() - start < effort.seconds
    ):
        turn: list[list[float]] = [[] for _ in runners]
        for place in order.sample(range(len(runners)), len(runners)):
            turn[place] = runners[place].window(sizes[place])
        windows.append(turn)
    return windows, sizes[-1]


def _in_shares(node: NodeTimes, runs: int, reference: np.ndarray, steady: np.ndarray) -> Node:
    """The last runs are those of the turns; before them the runner warmed up."""
    times = np.array(node.ms[-runs * len(reference) :]).reshape(len(reference), runs)
    share = np.median((np.median(times, axis=1) / reference)[steady])
    return Node(node.op, node.name, node.shapes, float(share))
