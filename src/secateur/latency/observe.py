"""Cuts, exports and profiles the networks of a fit, one after the other, each recorded as soon as it is measured.

A network takes seconds, a fit a minute or two. What was measured before is read from the cache: times belong to a
model's structure, the runtime and its version, the dtype, the threads and the machine, and to nothing else, so a second
run, or another budget, starts from there. Stopped in the middle, it goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from secateur.bench import (
    Device,
    Effort,
    Entry,
    LocalDevice,
    Node,
    Profile,
    default_threads,
    processor_name,
    profile,
)
from secateur.coupling import Groups
from secateur.deploy import format_for, named_inputs, runtime_named
from secateur.errors import CorruptFile
from secateur.files import whole_file
from secateur.latency.networks import draw_widths
from secateur.planning import Problem, Rounding, Ties, plan_of
from secateur.scoring import Random, score
from secateur.surgery import cut_groups
from secateur.task import Inputs

VERSION = 1
FEWEST = 6  # networks, however little time there is


@dataclass(frozen=True)
class Where:
    """What latency is meant.

    Args:
        runtime: ``onnxruntime``, ...
        dtype: ``fp32`` or ``int8``.
        device: this machine by default.
        threads: as many as there are physical cores by default.
    """

    runtime: str = "onnxruntime"
    dtype: str = "fp32"
    device: Device = field(default_factory=LocalDevice)
    threads: int = field(default_factory=default_threads)

    @property
    def tells_operators(self) -> bool:
        """Whether the device and the runtime tell the times of single operators there."""
        return self.device.tells_operators and runtime_named(self.runtime).tells_operators

    def about(self) -> dict[str, Any]:
        """What times depend on, besides the model: the cache's key and the record's."""
        return {
            "runtime": self.runtime,
            "runtime_version": runtime_named(self.runtime).version(),
            "dtype": self.dtype,
            "device": self.device.name,
            "processor": processor_name(),
            "threads": self.threads,
        }


@dataclass(frozen=True)
class Pace:
    """How long a fit is measured.

    Args:
        networks: at most.
        seconds: no further network is begun after so long, once six are done.
        effort: for each network.
        seed: of the widths.
    """

    networks: int = 14
    seconds: float = 240.0
    effort: Effort = field(default_factory=lambda: Effort(min_turns=8, max_turns=60, seconds=2.0))
    seed: int = 0

    @classmethod
    def within(cls, seconds: float) -> Pace:
        """So many seconds for all networks together, exports included; each is then timed for a part of its share."""
        each = min(2.0, max(0.1, seconds / 100))
        return cls(seconds=seconds, effort=Effort(min_turns=8, max_turns=60, seconds=each))


@dataclass(frozen=True)
class Survey:
    """Which networks are measured, and how long; what is not the model's nor the place's.

    Args:
        rounding: of the widths, as the planner rounds.
        ties: between widths, as the planner keeps them.
        pace: how many networks and how long.
        cache: folder of what was measured; :func:`cache_folder` by default.
        say: told a line for each network.
    """

    rounding: Rounding = field(default_factory=Rounding)
    ties: Ties | None = None
    pace: Pace = field(default_factory=Pace)
    cache: Path | None = None
    say: Callable[[str], None] = lambda line: None


@dataclass(frozen=True)
class Observation:
    """One network: which of its labels live, bool ``[labels]``, and its profile."""

    alive: np.ndarray
    profile: Profile


def observe(
    groups: Groups,
    inputs: Inputs,
    where: Where,
    survey: Survey | None = None,
) -> list[Observation]:
    """Measures networks of a model's groups; the first is the model itself.

    Args:
        groups: of the dense model.
        inputs: what the networks are run on.
        where: runtime, dtype, device and threads.
        survey: which widths, how many networks and how long.

    Raises:
        InputError: the device or the runtime does not tell the times of operators.
        NotExportable, SecateurError: a network cannot be exported or timed.
    """
    survey = survey or Survey()
    pace = survey.pace
    scores = score(groups.graph.module, groups, Random(pace.seed), cells=False)
    problem = Problem(scores, survey.rounding, None, ties=survey.ties)
    home = (survey.cache or cache_folder()) / _digest(groups, inputs, where, survey)
    found: list[Observation] = []
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="secateur-") as scratch:
        dense = _Artifact(groups, inputs, where, Path(scratch) / "dense")
        for number, widths in enumerate(draw_widths(problem, pace.networks, pace.seed)):
            if len(found) >= FEWEST and time.perf_counter() - started > pace.seconds:
                break
            dead = problem.dead(widths)
            file = home / f"{number}.json"
            measured = _read(file)
            if measured is None:
                survey.say(f"timing network {number + 1} of {pace.networks} in {where.runtime} {where.dtype}")
                plan = plan_of(groups, dead, scores.orders)
                other = (
                    dense if number == 0 else _Artifact(groups, inputs, where, Path(scratch) / "cut", plan)
                )
                measured = profile(
                    other.entry(),
                    inputs,
                    reference=dense.entry(),
                    device=where.device,
                    threads=where.threads,
                    effort=pace.effort,
                    seed=number,
                )
                _write(file, measured)
            found.append(Observation(problem.alive(problem.units if number == 0 else widths), measured))
    return found


class _Artifact:
    """A network's file, written when it is first asked for."""

    def __init__(self, groups: Groups, inputs: Inputs, where: Where, folder: Path, plan: Any = None) -> None:
        self.groups, self.inputs, self.where, self.folder, self.plan = groups, inputs, where, folder, plan
        self._entry: Entry | None = None

    def entry(self) -> Entry:
        if self._entry is None:
            module = (
                self.groups.graph.module if self.plan is None else cut_groups(self.groups, self.plan).module
            )
            exporter = format_for(self.where.runtime, self.where.dtype)
            path = self.folder / exporter.filename
            path.parent.mkdir(parents=True, exist_ok=True)
            exporter.write(module, self.inputs, path, [self.inputs])  # ranges do not matter for times
            self._entry = Entry(self.folder.name, path, self.where.runtime, self.where.dtype)
        return self._entry


def cache_folder() -> Path:
    """Where tables are kept: ``SECATEUR_CACHE``, else the user's cache folder."""
    given = os.environ.get("SECATEUR_CACHE")
    base = (
        Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "secateur"
    )
    return base / "latency"


def _digest(groups: Groups, inputs: Inputs, where: Where, survey: Survey) -> str:
    shapes = [(name, list(t.shape), str(t.dtype)) for name, t in named_inputs(inputs).items()]
    key = [
        VERSION, groups.graph.fingerprint, list(groups.removal.names), shapes, where.about(),
        asdict(survey.rounding), str(survey.ties), survey.pace.networks, survey.pace.seed,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]


def _read(file: Path) -> Profile | None:
    if not file.exists():
        return None
    try:
        data = json.loads(file.read_text())
        nodes = [
            Node(op, name, tuple(tuple(int(n) for n in s) for s in shapes), float(share))
            for op, name, shapes, share in data["nodes"]
        ]
        low, high = data["interval"]
        return Profile(data["ratio"], (low, high), data["reference_ms"], tuple(nodes), data["loaded"])
    except (KeyError, TypeError, ValueError, json.JSONDecodeError) as error:
        raise CorruptFile(f"{file} is no profile ({error}); delete it to measure anew") from error


def _write(file: Path, measured: Profile) -> None:
    data: Mapping[str, Any] = {
        "ratio": measured.ratio,
        "interval": list(measured.interval),
        "reference_ms": measured.reference_ms,
        "loaded": measured.loaded,
        "nodes": [[n.op, n.name, [list(s) for s in n.shapes], n.share] for n in measured.nodes],
    }
    with whole_file(file) as temporary:
        temporary.write_text(json.dumps(data))
