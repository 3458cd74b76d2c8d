"""The records of the zoo as a table in ``docs/zoo.md``: the summary first, between markers; the prose around stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

Record = dict[str, Any]

MOST_KEPT, MOST_ERROR, MOST_ERROR_DOUBLE, LEAST_PRUNABLE = 0.6, 1e-4, 1e-10, 0.9


def good(record: Record) -> bool:
    """Whether a model ran with at most 0.6 of its parameters, and equal to the reference where that is known."""
    if not record["ran"] or record["kept"] > MOST_KEPT:
        return False
    if record["tool"] != "secateur":
        return True
    return (
        record["error"] <= MOST_ERROR
        and record["error_double"] <= MOST_ERROR_DOUBLE
        and record["trace_error"] <= MOST_ERROR
    )


def summary(records: Sequence[Record]) -> str:
    """One line: how many did, and the middle of what it took."""
    done = [r for r in records if good(r)]
    if not done:
        return f"**0 of {len(records)}**"
    parts = [f"**{len(done)} of {len(records)}** run with at most {MOST_KEPT:g} of their parameters"]
    if records[0]["tool"] == "secateur":
        parts.append(
            f"a relative error of at most {max(r['error'] for r in done):.1e} "
            f"({max(r['error_double'] for r in done):.1e} in double precision)"
        )
        share = sum(r["prunable"] >= LEAST_PRUNABLE for r in done)
        parts.append(
            f"{share} of these have at least {LEAST_PRUNABLE:g} of their parameters in prunable groups"
        )
    took = [r["seconds"] for r in done]
    parts.append(f"median {median(took):.1f} s, longest {max(took):.1f} s")
    parts.append(f"most memory {max(r['peak_bytes'] for r in done) / 1e9:.1f} GB")
    return "; ".join(parts) + "."


def table(records: Mapping[str, Sequence[Record]], header: str) -> str:
    """The page's part that is written by the benchmark.

    Args:
        records: of each tool, in the order of the models.
        header: date, versions, machine, conditions.
    """
    ours, peers = list(records.get("secateur", [])), list(records.get("torch-pruning", []))
    lines = [f"Secateur: {summary(ours)}" if ours else "Secateur: not run."]
    if peers:
        lines += [
            "",
            f"Torch-Pruning: {summary(peers)} (runs and keeps the outputs' shape; values are not checked)",
        ]
    lines += ["", header, ""]
    columns = ["model", "ran", "kept", "prunable", "error fp32", "error fp64", "seconds", "peak GB"]
    if peers:
        columns += ["Torch-Pruning ran", "kept", "seconds", "peak GB"]
    lines += [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    theirs = {r["model"]: r for r in peers}
    names = list(dict.fromkeys(r["model"] for r in (*ours, *peers)))
    own = {r["model"]: r for r in ours}
    for name in names:
        cells = [name, *_own(own.get(name))]
        if peers:
            cells += _peer(theirs.get(name))
        lines.append(f"| {' | '.join(cells)} |")
    notes = [_note(r) for r in (*ours, *peers)]
    if any(notes):
        lines += ["", *[n for n in notes if n]]
    return "\n".join(lines)


def _own(record: Record | None) -> list[str]:
    if record is None:
        return [""] * 7
    if not record["ran"]:
        return ["**no**", "", "", "", "", *_cost(record)]
    return [
        "yes" if good(record) else "**yes, but**",
        f"{record['kept']:.3f}",
        f"{record['prunable']:.4f}",
        f"{record['error']:.1e} {record['kind']}",
        f"{record['error_double']:.1e}",
        *_cost(record),
    ]


def _peer(record: Record | None) -> list[str]:
    if record is None:
        return [""] * 4
    if not record["ran"]:
        return ["no", "", *_cost(record)]
    return ["yes" if good(record) else "yes, but", f"{record['kept']:.3f}", *_cost(record)]


def _cost(record: Record) -> list[str]:
    seconds, memory = record.get("seconds"), record.get("peak_bytes")
    return ["" if seconds is None else f"{seconds:.1f}", "" if memory is None else f"{memory / 1e9:.2f}"]


def _note(record: Record) -> str:
    """A line for each model that needs an explanation."""
    title = f"- {record['model']}" + ("" if record["tool"] == "secateur" else f", {record['tool']}")
    if record["problem"]:
        return f"{title}: {record['problem']}"
    if not good(record):
        return f"{title}: keeps {record['kept']:.3f} of its parameters" + (
            f"; the program that was cut differs from the model by {record['trace_error']:.1e}"
            if record.get("trace_error", 0.0) > MOST_ERROR
            else ""
        )
    if record.get("prunable", 1.0) < LEAST_PRUNABLE:
        return f"{title}: {record['prunable']:.3f} in prunable groups; locked: {'; '.join(record['locks'])}"
    return ""
