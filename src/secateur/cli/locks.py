"""What is locked, as commands print it: cause by cause, most parameters first, with the line of code and a remedy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from secateur.cli.screen import count, line, several, share

if TYPE_CHECKING:
    from secateur.report import Cause

MOST_NAMES = 3


def show_causes(causes: Sequence[Cause], params: float, most: int | None = None) -> None:
    """Prints causes: how much each holds, why, where, and what would free it."""
    for cause in causes[:most]:
        first = cause.first
        reasons = {lock["reason"] for lock in cause.locks}
        more = f" (and {len(reasons) - 1} like it)" if len(reasons) > 1 else ""
        line(
            f"{share(cause.params / max(params, 1)):>7}  {first['operator']}: {first['reason']}{more}",
            style="bold",
        )
        for label, text in (
            (
                "holds",
                f"{count(cause.params)} parameters in {several(len(cause.locks), 'axis', 'axes')}: {_axes(cause)}",
            ),
            ("code", _places(cause)),
            ("to free", first["remedy"]),
            ("also", "; ".join(_also(cause))),
        ):
            if text:
                line(f"         {label:<8} {text}")
    if most is not None and len(causes) > most:
        rest = sum(len(cause.locks) for cause in causes[most:])
        line(f"         and {several(len(causes) - most, 'smaller cause')} of {several(rest, 'lock')}")


def _axes(cause: Cause) -> str:
    """``parameter:axis`` of the locks, those locked in part with how many of their positions."""
    from secateur.report import folded

    names: dict[str, list[str]] = {}
    for lock in cause.locks:
        part = f" ({lock['positions']} of {lock['size']})"
        names.setdefault(part, []).append(f"{lock['param']}:{lock['axis']}")
    written = [name + part for part, same in names.items() for name in folded(same)]
    return first_few(written, MOST_NAMES)


def _places(cause: Cause) -> str:
    from secateur.report import folded

    sources = list(dict.fromkeys(shortened(lock["source"]) for lock in cause.locks))
    layers = folded(lock["layer"] for lock in cause.locks if lock["layer"])
    where = f" in {first_few(layers, 2)}" if layers else ""
    return first_few([s for s in sources if s != "-"], 2) + where


def _also(cause: Cause) -> list[str]:
    """Further causes: all of them must go before the axis is free."""
    found = {(c["operator"], c["reason"]): None for lock in cause.locks for c in lock["further"]}
    return [f"{operator}: {reason}" for operator, reason in list(found)[:MOST_NAMES]]


def shortened(source: str) -> str:
    """A line of code with its file told from the packages' folder or the current one on."""
    _, packages, inside = source.rpartition("/site-packages/")
    return inside if packages else source.removeprefix(f"{Path.cwd()}/")


def first_few(names: Sequence[str], most: int) -> str:
    """The first names, and how many more there are."""
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
