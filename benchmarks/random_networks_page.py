"""The records of the random networks as a paragraph in ``docs/random-networks.md``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from processes import Record

SUMMED = ("passed", "judged", "cuttable", "dynamic", "groups", "blocks", "seconds")


def failures(records: Mapping[str, Record]) -> dict[str, str]:
    """What is wrong with which network, by number."""
    found = {seed: words for record in records.values() for seed, words in record["failures"].items()}
    return dict(sorted(found.items(), key=lambda item: int(item[0])))


def totals(records: Mapping[str, Record]) -> dict[str, float]:
    """Sums over all hundreds, and the largest error."""
    sums: dict[str, float] = {name: sum(r[name] for r in records.values()) for name in SUMMED}
    return {**sums, "largest_error": max((r["largest_error"] for r in records.values()), default=0.0)}


def section(store: Mapping[str, Any]) -> str:
    """What came out, the conditions, and a line for each network that failed."""
    records, c = store["records"], store["conditions"]
    sums, wrong = totals(records), failures(records)
    passed, tried = int(sums["passed"]), int(sums["passed"]) + len(wrong)
    mean = {name: sums[name] / max(passed, 1) for name in SUMMED}
    versions = ", ".join(f"{name} {number}" for name, number in c["versions"].items() if number)
    lines = [
        f"**{passed:,} of {tried:,}** networks have every property. They have {mean['blocks']:.1f} blocks and "
        f"{mean['groups']:.1f} groups on average; {mean['cuttable']:.0%} have something to cut, {mean['dynamic']:.0%} "
        f"take any batch. The largest relative error at any node is {sums['largest_error']:.1e}, in double precision. "
        f"The second judge could decide about {mean['judged']:.0%}.",
        "",
        f"Measured {c['date']} on {c['cores']} cores ({c['processor']}), one thread, Python {c['python']}; {versions}: "
        f"{sums['seconds'] / max(tried, 1):.2f} s of processor time for each.",
    ]
    if wrong:
        lines += ["", *(f"- {seed}: {' '.join(words.split())}" for seed, words in wrong.items())]
    return "\n".join(lines)
