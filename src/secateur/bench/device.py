"""The seam to the hardware: a device opens artifacts as runners, and a runner times windows of runs.

To add a device (a phone, a board): write a :class:`Device` whose ``open`` puts the files there and whose runners
answer with milliseconds. ``measure`` decides who runs when, and what the times mean.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from secateur.bench.measurement import Entry
from secateur.task import Inputs


class Runner(ABC):
    """One artifact, loaded and ready; idle unless told to run."""

    @abstractmethod
    def window(self, runs: int) -> list[float]:
        """Runs the artifact ``runs`` times back to back; milliseconds of each.

        Raises:
            SecateurError: it stopped; the message names the artifact.
        """

    @abstractmethod
    def peak_bytes(self) -> int:
        """Peak memory so far above that of the empty runtime, in bytes; 0 where the device cannot tell."""


class Device(ABC):
    """Where artifacts are timed. ``name`` stands in the records."""

    name: str

    @abstractmethod
    def open(
        self, entries: Sequence[Entry], inputs: Inputs, threads: int
    ) -> AbstractContextManager[list[Runner]]:
        """Loads every artifact with these inputs and so many threads; on leaving, everything is closed, come what may.

        Raises:
            SecateurError: an artifact cannot be loaded.
        """

    def watch(self, runners: Sequence[Runner]) -> Callable[[], bool]:
        """Starts watching; the function returned says whether other work disturbed the device since. A device that
        cannot tell says no."""
        return lambda: False
