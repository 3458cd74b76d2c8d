"""Files and folders appear whole or not at all: written beside their destination, then renamed over it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from secateur.errors import RunFolderError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path with the same suffix in the same folder, and renames it to ``path`` on success.

    Raises:
        RunFolderError: the folder cannot be written, or the disk is full.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except Exception as error:
        # Libraries report a full disk with errors of their own.
        if not isinstance(error, OSError) and "No space left" not in str(error):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise RunFolderError(
            f"cannot write {path}: {reason}; choose another folder or free some space"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder beside ``path``, and renames it to ``path`` on success; else nothing is left of it.

    Raises:
        RunFolderError: there is something at ``path`` already, or it cannot be written.
    """
    temporary: Path | None = None
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise RunFolderError(f"{path} is there already and is not an empty folder; choose another")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        yield temporary
        os.chmod(temporary, 0o777 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise RunFolderError(
            f"cannot write {path}: {error.strerror or error}; choose another folder or free some space"
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
