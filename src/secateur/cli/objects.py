"""``package.module:name`` to an object, with the current folder importable; shared by models, data and tasks."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable
from typing import Any

from secateur.errors import RecipeError, SecateurError, UnknownName


def import_object(name: str, what: str) -> Any:
    """Imports ``package.module:attribute``; the attribute may have dots.

    Args:
        what: how the object is called in messages ("model", "data set").

    Raises:
        UnknownName: no such module or attribute, with the closest names there are.
        RecipeError: the module fails while it is imported.
    """
    module_name, _, path = name.partition(":")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module_name == missing or module_name.startswith(missing + "."):
            raise UnknownName(
                f"{what} {name!r}: there is no module {missing!r}, neither in {here} nor among installed packages"
            ) from error
        raise RecipeError(
            f"{what} {name!r}: {module_name} needs the module {missing!r}, which is not installed"
        ) from error
    except Exception as error:
        raise RecipeError(f"{what} {name!r}: importing {module_name} failed with {told(error)}") from error
    found: Any = module
    for part in path.split("."):
        if not hasattr(found, part):
            raise UnknownName(f"{what} {name!r}: {module_name} has no {part!r}{closest(part, dir(found))}")
        found = getattr(found, part)
    return found


def called(function: Any, name: str, what: str, arguments: dict[str, Any] | None = None) -> Any:
    """Calls what the user named; its exceptions become one line.

    Raises:
        RecipeError: it is not callable, does not take the arguments, or fails.
    """
    if not callable(function):
        raise RecipeError(f"{what} {name!r} is not callable; it is of type {type(function).__name__}")
    try:
        return function(**(arguments or {}))
    except SecateurError:
        raise
    except Exception as error:
        given = f" with {arguments}" if arguments else ""
        raise RecipeError(f"{what} {name!r}: calling it{given} failed with {told(error)}") from error


def closest(name: str, names: Iterable[str], count: int = 3) -> str:
    """``"; did you mean ...?"`` with the closest names, or nothing if none is close."""
    near = difflib.get_close_matches(name, [n for n in names if not n.startswith("_")], n=count, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def told(error: BaseException) -> str:
    """An exception of someone else's code in one line."""
    lines = str(error).strip().splitlines() or ["no message"]
    return f"{type(error).__name__}: {lines[0]}"


def has_package(name: str) -> bool:
    """Whether a package can be found, without importing it (one that is already imported counts)."""
    if name in sys.modules:
        return sys.modules[name] is not None
    return importlib.util.find_spec(name) is not None
