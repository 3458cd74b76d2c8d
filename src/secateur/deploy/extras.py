"""Optional dependencies: imported where they are used, and a clear line where they are missing."""

from __future__ import annotations

import importlib
from importlib import metadata, util
from types import ModuleType

from secateur.errors import MissingExtra


def require(package: str, extra: str, purpose: str) -> ModuleType:
    """Imports ``package``.

    Raises:
        MissingExtra: it is not installed; the message names the extra that brings it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingExtra(package.split(".")[0], extra, purpose) from error


def installed(*packages: str) -> bool:
    """Whether every package can be found, without importing any."""
    return all(util.find_spec(package) is not None for package in packages)


def version(package: str) -> str | None:
    """The installed version of a distribution, or ``None``."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
