"""Which runtime to use, where that is left open: the same model in each that is installed, measured in turn.

No rule foretells it: INT8 slows some networks down in one runtime and speeds them up in another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from secateur.bench import Device, Effort, Entry, Interval, Measurement, measure
from secateur.deploy import Exporter, Target, format_for, size_of
from secateur.errors import MissingExtra, NotExportable, ParityError, SecateurError
from secateur.task import Inputs


@dataclass(frozen=True)
class Rival:
    """A model in one runtime and dtype.

    Args:
        runtime, dtype: what it is.
        latency_ms: median; None where it was not measured.
        ratio, interval: of its latency to the first rival's, paired; 1 for that one itself.
        size_bytes: of its files.
        obstacle: why it was not measured, else empty.
    """

    runtime: str
    dtype: str
    latency_ms: float | None = None
    ratio: float | None = None
    interval: Interval | None = None
    size_bytes: int | None = None
    obstacle: str = ""


@dataclass(frozen=True)
class RuntimeChoice:
    """The target with its runtime settled, the rivals, and their measurements."""

    target: Target
    rivals: tuple[Rival, ...]
    timings: tuple[Measurement, ...]

    def to_json(self) -> list[dict[str, Any]]:
        """The rivals as plain data; ``chosen`` marks what made the choice."""
        best = _fastest(self.target, self.rivals)
        return [{**asdict(r), "chosen": r == best} for r in self.rivals]


def choose_runtime(
    target: Target,
    export: Callable[[Exporter], Path],
    inputs: Inputs,
    *,
    device: Device | None = None,
    threads: int | None = None,
    effort: Effort | None = None,
    seed: int = 0,
) -> RuntimeChoice:
    """Exports a model for every runtime installed here and measures all in turn; fp32 always, to compare with.

    Args:
        target: with the runtime open; its dtypes decide, fp32 alone where that is all that is asked.
        export: writes the model in a format and gives the path.
        inputs: what is run.
        device, threads, effort, seed: as for :func:`secateur.bench.measure`.

    Raises:
        MissingExtra: no runtime is installed.
        NotExportable, ParityError: no runtime takes the model in a dtype that is asked for; the last obstacle.
    """
    rivals: list[Rival] = []
    entries: list[Entry] = []
    problem: SecateurError | None = None
    for one in target.rivals():
        for dtype in dict.fromkeys(("fp32", *one.dtypes)):
            try:
                path = export(format_for(one.runtime, dtype))
            except (NotExportable, ParityError, MissingExtra) as error:
                problem = error
                rivals.append(Rival(one.runtime, dtype, obstacle=str(error)))
                continue
            entries.append(Entry(f"{one.runtime}-{dtype}", path, one.runtime, dtype))
            rivals.append(Rival(one.runtime, dtype, size_bytes=size_of(path)))
    if problem is not None and not any(e.dtype in target.dtypes for e in entries):
        raise problem
    timings = measure(
        entries, inputs, device=device, threads=threads, phase="runtime", effort=effort, seed=seed
    )
    known = {(m.runtime, m.dtype): m for m in timings}
    told = tuple(_told(r, known.get((r.runtime, r.dtype))) for r in rivals)
    return RuntimeChoice(Target(_fastest(target, told).runtime, target.dtype), told, tuple(timings))


def _told(rival: Rival, timing: Measurement | None) -> Rival:
    if timing is None:
        return rival
    ratio, interval = (1.0, (1.0, 1.0)) if timing.ratio is None else (timing.ratio, timing.ratio_interval)
    return Rival(rival.runtime, rival.dtype, timing.median_ms, ratio, interval, rival.size_bytes)


def _fastest(target: Target, rivals: Sequence[Rival]) -> Rival:
    """The fastest in a dtype that is asked for."""
    measured = [(r.ratio, r) for r in rivals if r.ratio is not None and r.dtype in target.dtypes]
    return min(measured, key=lambda pair: pair[0])[1]
