"""Every failure is one clear line on standard error, and an exit status.

what went wrong                             status
a SecateurError                             its own (2 request, 4 infeasible, 1 otherwise)
a wrong command line                        2
a full disk, or no access                   2
Ctrl-C                                      130, and how to go on
anything else, which is a defect of ours    1, with its type and place (SECATEUR_DEBUG=1: the traceback)
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from secateur.errors import SecateurError

INTERRUPTED = 130
STOPPED = "stopped; run the same command again to resume"
FULL = (errno.ENOSPC, errno.EDQUOT)
DENIED = (errno.EROFS, errno.EACCES, errno.EPERM)
# Writers that are not Python's have exceptions of their own for a full disk.
FULL_IN_WORDS = ("No space left on device", "Disk quota exceeded", "PytorchStreamWriter failed writing")

# Typer may carry its own copy of Click, so its exceptions are reached through Typer's public names.
UsageProblem: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


class OneLine(TyperGroup):
    """A group of commands that reports every failure in one line."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Runs a command line and exits; ``standalone_mode`` is not looked at."""
        try:
            with warnings.catch_warnings():
                quieten()
                outcome = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
            # Typer gives 130 for Ctrl-C in this mode, and the code of typer.Exit.
            if outcome == INTERRUPTED:
                say(STOPPED)
            status = outcome if isinstance(outcome, int) else 0
        except (KeyboardInterrupt, typer.Abort):
            say(STOPPED)
            status = INTERRUPTED
        except Exception as error:
            if debugging():
                traceback.print_exc()
            status, line = outcome_of(error)
            say(line)
        sys.exit(status)


def outcome_of(error: Exception) -> tuple[int, str]:
    """The exit status of an error, and its line."""
    if isinstance(error, SecateurError):
        return error.exit_status, f"error: {error}"
    if isinstance(error, UsageProblem):
        context = getattr(error, "ctx", None)
        hint = f"; see {context.command_path} --help" if context is not None else ""
        return 2, f"error: {error.format_message().rstrip('.?')}{hint}"
    name = f" at {error.filename}" if isinstance(error, OSError) and error.filename else ""
    if _full(error):
        return 2, f"error: the disk is full{name}; free some space and run the same command again"
    if isinstance(error, OSError) and error.errno in DENIED:
        return (
            2,
            f"error: access is denied{name}: {error.strerror}; change the permissions or choose another place",
        )
    return 1, (
        f"a defect of ours: {type(error).__name__}: {error} ({_place(error)}); "
        "please report it (SECATEUR_DEBUG=1 shows the traceback)"
    )


def _full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    return any(words in str(error) for words in FULL_IN_WORDS)


def say(line: str) -> None:
    """One line on standard error, whatever the message holds."""
    print(" ".join(line.split()), file=sys.stderr)


def debugging() -> bool:
    """Whether the user asked for tracebacks and warnings."""
    return os.environ.get("SECATEUR_DEBUG", "") not in ("", "0")


def quieten() -> None:
    """Keeps warnings of the libraries below off the screen."""
    if not debugging():
        warnings.simplefilter("ignore")
        for name in ("torch", "onnxscript", "onnx_ir", "transformers", "timm"):
            logging.getLogger(name).setLevel(logging.ERROR)


def _place(error: BaseException) -> str:
    """The innermost line of ours that the error passed through, else where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if f"{os.sep}secateur{os.sep}" in f.filename] or frames
    if not own:
        return "place unknown"
    place = Path(own[-1].filename)
    return f"{place.parent.name}/{place.name}:{own[-1].lineno}"
