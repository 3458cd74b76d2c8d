"""The commands; names become objects here only.

``secateur.cli.app`` holds the list of commands, one file each; ``failures`` turns every error into one line and an
exit status. Whatever is heavy is imported by the command that needs it.
"""

from __future__ import annotations


def main() -> None:
    """The console entry: runs the command line and exits with the status of the contract."""
    try:
        from secateur.cli.app import app
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    app(prog_name="secateur")


__all__ = ["main"]
