"""The run folder: one recipe, one model, one data set, one process at a time."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from secateur.errors import RequestError, RunFolderError
from secateur.files import whole_file
from secateur.pipeline.journal import Journal

_FIRST = (".lock", "recipe.yaml", "sweep.yaml")  # what a run that was killed at once may have left


class Request(Protocol):
    """What a folder is for: a recipe, or what a sweep was asked."""

    @property
    def digest(self) -> str:
        """Hash of everything that must be the same for the folder to be gone on with."""

    def to_dict(self) -> dict[str, Any]:
        """The request as plain data."""


class RunFolder:
    """Where a run keeps its records; made by :func:`open_folder`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.journal = Journal(root / "journal.jsonl")

    @property
    def artifacts(self) -> Path:
        """Exported files of the pruned model; those of the dense one are in ``dense`` below."""
        return self.root / "artifacts"

    def round(self, number: int) -> Path:
        """The state after a round."""
        return self.root / "rounds" / f"{number:02d}"

    def write_json(self, name: str, data: Any) -> None:
        """Writes one record, whole or not at all."""
        with whole_file(self.root / name) as path:
            path.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")

    def write_lines(self, name: str, records: Iterable[Mapping[str, Any]]) -> None:
        """Writes a file of JSON lines, whole or not at all."""
        with whole_file(self.root / name) as path:
            path.write_text("".join(json.dumps(r, allow_nan=False) + "\n" for r in records), encoding="utf-8")


@contextlib.contextmanager
def open_folder(
    out: str | os.PathLike[str], request: Request, hashes: Mapping[str, str], what: str = "recipe"
) -> Iterator[RunFolder]:
    """Opens a new run, or one that was begun with the same recipe, model and data.

    Args:
        out: the folder.
        request: what was asked; written to ``<what>.yaml``.
        hashes: of what it works with, by name.
        what: ``recipe`` for a run.

    Raises:
        RunFolderError: the folder is read-only, in use, not a run, or belongs to another recipe, model or data.
    """
    import yaml

    root = Path(out)
    identity = {**hashes, what: request.digest}
    known = root / "identity.json"
    if root.exists() and not root.is_dir():
        raise RunFolderError(f"{root} is a file; give another folder with --out")
    if known.exists():
        _same_run(root, known, identity)
    elif root.is_dir() and any(p.name not in _FIRST for p in root.iterdir()):
        raise RunFolderError(f"{root} is not empty and holds no run; give another folder with --out")
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(
            f"cannot make {root}: {error.strerror}; give another folder with --out"
        ) from error
    with _locked(root), _nothing_left_of_a_wrong_request(root, new=not known.exists()):
        for left in root.rglob(".*"):  # files that a killed run was still writing
            if left.is_file() and left.name != ".lock":
                left.unlink(missing_ok=True)
        folder = RunFolder(root)
        with whole_file(root / f"{what}.yaml") as path:
            path.write_text(yaml.safe_dump(request.to_dict(), sort_keys=False), encoding="utf-8")
        folder.write_json("identity.json", identity)
        yield folder


@contextlib.contextmanager
def _nothing_left_of_a_wrong_request(root: Path, new: bool) -> Iterator[None]:
    """A new run that turns out to be a wrong request before its first step leaves no folder behind."""
    try:
        yield
    except RequestError:
        if new and not (root / "journal.jsonl").exists():
            shutil.rmtree(root, ignore_errors=True)
        raise


def _same_run(root: Path, known: Path, identity: Mapping[str, str]) -> None:
    try:
        before = json.loads(known.read_text())
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{known} cannot be read; give another folder with --out") from error
    for what, value in identity.items():
        if before.get(what) != value:
            raise RunFolderError(
                f"{root} belongs to another {what}; give another folder with --out, or the {what} it was begun with"
            )


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    """One process at a time; the system releases the lock of a process that dies."""
    import fcntl

    try:
        handle = open(root / ".lock", "w")
    except OSError as error:
        raise RunFolderError(
            f"cannot write in {root}: {error.strerror}; give another folder with --out"
        ) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunFolderError(
                f"another process is working in {root}; wait for it, or give another folder"
            ) from error
        yield
