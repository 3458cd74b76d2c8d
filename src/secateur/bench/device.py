"""The seam to the hardware: a device opens artifacts as runners, and a runner times windows of runs.

To add a device (a phone, a board): write a :class:`Device` whose ``open`` puts the files there and whose runners
answer with milliseconds. ``measure`` decides who runs when, and what the times mean.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from secateur.bench.measurement import Entry
from secateur.errors import InputError
from secateur.task import Inputs


@dataclass(frozen=True)
class NodeTimes:
    """One operator of an artifact, as its runtime runs it: fused, in the layout that the runtime chose.

    Args:
        op: the runtime's name of the kernel.
        name: the node's own.
        shapes: of its inputs and then its outputs; those that the runtime does not tell are left out.
        ms: milliseconds of it in every run since the artifact was opened.
    """

    op: str
    name: str
    shapes: tuple[tuple[int, ...], ...]
    ms: tuple[float, ...]


class Runner(ABC):
    """One artifact, loaded and ready; idle unless told to run."""

    @abstractmethod
    def window(self, runs: int) -> list[float]:
        """Runs the artifact ``runs`` times back to back; milliseconds of each.

        Raises:
            SecateurError: it stopped; the message names the artifact.
        """

    def nodes(self) -> list[NodeTimes]:
        """The operators in the order in which they run, with the times of every run so far; asked once, at the end,
        of an artifact that was opened with ``profile``.

        Raises:
            InputError: the device or the runtime does not tell.
        """
        raise InputError("this device does not tell the times of single operators")

    @abstractmethod
    def peak_bytes(self) -> int:
        """Peak memory so far above that of the empty runtime, in bytes; 0 where the device cannot tell."""


class Device(ABC):
    """Where artifacts are timed. ``name`` stands in the records."""

    name: str
    tells_operators = False  # whether runners opened with ``profile`` know the times of operators

    @abstractmethod
    def open(
        self, entries: Sequence[Entry], inputs: Inputs, threads: int, *, profile: bool = False
    ) -> AbstractContextManager[list[Runner]]:
        """Loads every artifact with these inputs and so many threads; on leaving, everything is closed, come what may.

        With ``profile``, the runners tell what each operator took, and run a little slower.

        Raises:
            SecateurError: an artifact cannot be loaded.
        """

    def watch(self, runners: Sequence[Runner]) -> Callable[[], bool]:
        """Starts watching; the function returned says whether other work disturbed the device since. A device that
        cannot tell says no."""
        return lambda: False
