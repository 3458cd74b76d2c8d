"""The groups of all that the user's class computes, calls that the exporter drops included.

Nothing reads these calls, so that they decide nothing: their weights follow what is cut before them, and groups
of theirs alone stay as they are. They stand as removed in the groups, which keeps them out of the cut program.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from secateur.coupling import FreeOutputs, Groups, Operator, Rule, find_groups, remove_blocks
from secateur.graph import Probe, only_unread_state


def whole_groups(
    groups: Groups,
    seen: Probe,
    rules: Mapping[str, Rule | Operator] | None = None,
    free_outputs: FreeOutputs | None = None,
) -> Groups:
    """Groups of ``seen.graph``, without the blocks that ``groups`` are without; the same where it has no more calls."""
    if seen.graph is groups.graph:
        return groups
    found = remove_blocks(find_groups(seen.graph, rules, free_outputs), groups.removal.names)
    removal = found.removal
    removal = replace(
        removal,
        gone=removal.gone | seen.unread,
        unseen=removal.unseen | seen.unread,
        state=removal.state | only_unread_state(seen.graph, removal.gone | seen.unread),
        unread=seen.unread | only_unread_state(seen.graph, seen.unread),
    )
    left = tuple(g for g in found if any(m.param not in removal.state for m in g.members))
    return replace(found, groups=left, removal=removal)


def seen_again(groups: Groups, seen: Probe) -> Groups:
    """The same groups with the calls that nothing reads back among the others, as the user's class runs them."""
    removal = groups.removal
    if seen.unread.isdisjoint(removal.gone):
        return groups
    state = removal.state - only_unread_state(seen.graph, seen.unread)
    return replace(
        groups,
        removal=replace(
            removal, gone=removal.gone - seen.unread, unseen=removal.unseen - seen.unread, state=state
        ),
    )
