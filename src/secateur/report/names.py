"""Names of repeated layers, folded: ``blocks.0.fc1``, ``blocks.1.fc1``, ``blocks.2.fc1`` as ``blocks.[0–2].fc1``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_NUMBER = re.compile(r"(\d+)")


def pattern(name: str) -> str:
    """A name with every number replaced: what names of repeated layers have in common."""
    return _NUMBER.sub("#", name)


def name_range(names: Sequence[str]) -> str:
    """``layer.0`` to ``layer.11`` as ``layer.[0–11]``; ``first … last`` where more than one number differs."""
    first, last = names[0], names[-1]
    if first == last:
        return first
    ours, theirs = _NUMBER.split(first), _NUMBER.split(last)
    differ = [i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b]
    if len(differ) != 1 or len(ours) != len(theirs):
        return f"{first} … {last}"
    i = differ[0]
    return "".join([*ours[:i], f"[{ours[i]}–{theirs[i]}]", *ours[i + 1 :]])


def folded(names: Iterable[str]) -> list[str]:
    """Names in order, those that count through one of their numbers without a gap as one."""
    runs: list[list[str]] = []
    slots: dict[int, int] = {}  # for a run of two and more, by its place: which part of the name counts
    at: dict[tuple[int, tuple[str, ...]], int] = {}
    for name in dict.fromkeys(names):
        parts = _NUMBER.split(name)
        keys = {i: (i, (*parts[:i], *parts[i + 1 :])) for i in range(1, len(parts), 2)}
        for i, key in keys.items():
            place = at.get(key, -1)
            if place < 0 or slots.get(place, i) != i:
                continue
            if int(_NUMBER.split(runs[place][-1])[i]) + 1 == int(parts[i]):
                runs[place].append(name)
                slots[place] = i
                break
        else:
            at.update({key: len(runs) for key in keys.values()})
            runs.append([name])
    return [name_range(run) for run in runs]
