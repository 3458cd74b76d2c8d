"""Blocks that can be removed whole, as commands print them: alike ones in one row, and why others cannot go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from secateur.cli.locks import first_few, shortened
from secateur.cli.screen import count, line, several, share, table

if TYPE_CHECKING:
    from secateur.coupling import Groups

SHOWN_BLOCKS = 10


def show_blocks(blocks: Sequence[dict[str, Any]], params: float, macs: float) -> None:
    """Prints the blocks of ``analysis.json``: what can go, what that saves, and what cannot."""
    from secateur.report import name_range, pattern

    alike: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for block in blocks:
        if not block["locked"]:
            key = (pattern(block["name"]), block["kind"], block["params"], block["macs"])
            alike.setdefault(key, []).append(block)
    rows = [
        (
            f"{len(same)} ×" if len(same) > 1 else "",
            name_range([b["name"] for b in same]),
            same[0]["kind"],
            count(same[0]["params"]),
            share(same[0]["params"] / max(params, 1)),
            share(same[0]["macs"] / max(macs, 1)),
        )
        for same in alike.values()
    ]
    if rows:
        table(
            "Blocks that can be removed whole",
            ("", "block", "kind", "parameters", "share", "of the multiply-adds"),
            rows[:SHOWN_BLOCKS],
            right=("", "parameters", "share", "of the multiply-adds"),
        )
    if len(rows) > SHOWN_BLOCKS:
        rest = sum(len(same) for same in list(alike.values())[SHOWN_BLOCKS:])
        line(f"and {several(rest, 'more block')}; --json FILE has all of them")
    locked = [b["name"] for b in blocks if b["locked"]]
    if locked:
        line(f"cannot go: {first_few(locked, 6)}; 'secateur explain' with the name says why")


def explain_block(groups: Groups, name: str) -> bool:
    """Prints what is known of the block of a name, if there is one; returns whether there is."""
    from secateur.cost import Macs

    found = [b for b in groups.blocks if b.name == name]
    for block in found:
        line(f"{block.kind} {block.name}, at {shortened(block.source)}", style="bold")
        if block.locked:
            line(f"cannot be removed: {'; '.join(block.locked)}")
            continue
        macs = Macs(groups.graph).of_blocks(groups)[block.name]
        line(
            f"can be removed whole: that saves {count(block.parameters)} parameters and {count(macs)} multiply-adds, "
            f"and {block.entry.name} goes on in the place of {block.exit.name}"
        )
        if block.branches:
            line(f"made of {', '.join(block.branches)}")
    return bool(found)
