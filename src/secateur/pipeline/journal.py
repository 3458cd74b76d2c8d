"""What a run has decided and measured so far, so that it can be stopped at any moment.

Every step that decides, measures or trains is recorded under a name when it is done, as one line that is on the
disk before the next step begins. A run that is started again goes the same way: recorded steps are
replayed, the rest is done. A last line that was cut off by a crash counts as not written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from secateur.errors import CorruptFile, RunFolderError
from secateur.files import whole_file


class Journal:
    """Steps by name, in a file of JSON lines.

    Args:
        path: the file; made with the first step.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.steps: dict[str, Any] = {}
        self.replayed = 0
        if path.exists():
            self._read()

    def __contains__(self, name: str) -> bool:
        return name in self.steps

    def step(self, name: str, work: Callable[..., Any], *args: Any) -> Any:
        """The step's recorded outcome, or that of ``work(*args)``, recorded. Outcomes are JSON data.

        Raises:
            RunFolderError: the record cannot be written.
        """
        if name in self.steps:
            self.replayed += 1
            return self.steps[name]
        outcome = json.loads(json.dumps(work(*args)))
        line = json.dumps({"step": name, "outcome": outcome}) + "\n"
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RunFolderError(
                f"cannot write {self.path}: {error.strerror}; free some space and run again"
            ) from error
        self.steps[name] = outcome
        return outcome

    def _read(self) -> None:
        text = self.path.read_text(encoding="utf-8", errors="replace")
        lines = text.split("\n")
        for number, line in enumerate(lines[:-1], start=1):
            try:
                entry = json.loads(line)
                self.steps[entry["step"]] = entry["outcome"]
            except (ValueError, KeyError, TypeError) as error:
                raise CorruptFile(
                    f"{self.path} line {number} was altered; start anew in another folder"
                ) from error
        if lines[-1]:  # cut off in the middle: forget it, and do not append to it
            with whole_file(self.path) as partial:
                partial.write_text("".join(f"{line}\n" for line in lines[:-1]), encoding="utf-8")
