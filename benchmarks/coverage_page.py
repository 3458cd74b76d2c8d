"""The records of the coverage benchmark as tables in ``docs/coverage.md``: what is asked of a model, and the rows."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from processes import Record

MOST_ERROR, MOST_ERROR_DOUBLE, LEAST_PRUNABLE = 1e-5, 1e-10, 0.9
MOST_ERROR_FOLDED, LEAST_EFFECT = 1e-6, 1e-4
MOST_SECONDS, MOST_BYTES = 120.0, 8e9
_STEPS = ("export", "analysis", "cut", "check")
_TITLES = {"timm": "timm", "torchvision": "torchvision", "hf": "Hugging Face"}


def problems(record: Record) -> list[str]:
    """What keeps a record from being good; nothing where the exporter itself refuses."""
    if record.get("refused"):
        return []
    if not record["ran"]:
        return [str(record["problem"])]
    wrong = [] if record["problem"] is None else [str(record["problem"])]
    if not at_outputs(record) <= MOST_ERROR:
        wrong.append(f"fp32 {at_outputs(record):.1e}")
    for words, key, most in (
        ("fp64", "error_double", MOST_ERROR_DOUBLE),
        ("against the model", "trace_error", MOST_ERROR),
    ):
        if not record[key] <= most:
            wrong.append(f"{words} {record[key]:.1e}")
    own = record.get("own_module", {})
    # What is computed from parameters alone is computed once and rounded, which the owner's module does not.
    if not own.get("error", 0.0) <= (MOST_ERROR_FOLDED if record.get("folded") else MOST_ERROR_DOUBLE):
        wrong.append(f"the owner's module differs by {own['error']:.1e}")
    if not own.get("effect", 1.0) >= LEAST_EFFECT:
        wrong.append(f"the cut moves the owner's outputs by {own['effect']:.1e} alone, which shows nothing")
    if total_seconds(record) > MOST_SECONDS:
        wrong.append(f"{total_seconds(record):.0f} s")
    if record["peak_bytes"] > max(MOST_BYTES, record["forward_bytes"]):
        wrong.append(f"{record['peak_bytes'] / 1e9:.1f} GB")
    return wrong


def at_outputs(record: Record) -> float:
    """The error in fp32 over the model's outputs."""
    return float(record.get("error_outputs", record["error"]))


def total_seconds(record: Record) -> float:
    """Export, analysis, cut and check."""
    return float(sum(record.get(f"seconds_{step}", 0.0) for step in _STEPS))


def summary(records: Sequence[Record]) -> str:
    """What holds over all models of a list, in a few sentences."""
    refused = [r for r in records if r.get("refused")]
    done = [r for r in records if r["ran"] and not problems(r)]
    if not done:
        return f"**0 of {len(records)}**"
    took = [total_seconds(r) for r in done]
    own = [r["own_module"]["error"] for r in done if "error" in r.get("own_module", {})]
    parts = [
        f"**{len(done)} of {len(records)}** models are cut, run, and equal the reference"
        + (f"; {len(refused)} are refused by the exporter itself" if refused else ""),
        f"the largest relative error is {max(at_outputs(r) for r in done):.1e} at the outputs in fp32 and "
        f"{max(r['error_double'] for r in done):.1e} at every node in fp64, and {max(own, default=0.0):.1e} on the "
        f"owner's own module in fp64, where {len(own)} could be checked",
        f"{sum(r['prunable'] >= LEAST_PRUNABLE for r in done)} have at least {LEAST_PRUNABLE:g} of their parameters in "
        f"prunable groups{_median(done)}",
        f"export, analysis, cut and check take {median(took):.1f} s at the median and {max(took):.0f} s at most, with "
        f"{max(r['peak_bytes'] for r in done) / 1e9:.1f} GB at most",
    ]
    return ". ".join(p[0].upper() + p[1:] for p in parts) + "."


def _median(done: Sequence[Record]) -> str:
    shares = [r["prunable"] for r in done if r.get("head")]
    return f" (median over the {len(shares)} with a head {median(shares):.4f})" if shares else ""


def section(source: str, records: Sequence[Record], conditions: str) -> str:
    """Summary, conditions, rows, and a line for each model that needs one."""
    columns = [
        "model",
        "cut, runs, equal",
        "prunable",
        "head",
        "groups",
        "fp32 outputs",
        "fp32 nodes",
        "fp64 nodes",
    ]
    columns += ["owner's module", "export s", "analysis s", "cut s", "check s", "peak GB"]
    lines = [f"### {_TITLES[source]}", "", summary(records), "", conditions, ""]
    lines += [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    lines += [f"| {' | '.join(_cells(r))} |" for r in records]
    notes = [note for r in records if (note := _note(r))]
    return "\n".join([*lines, *(["", *notes] if notes else [])])


def header(c: dict[str, Any]) -> str:
    """The conditions in words."""
    versions = ", ".join(f"{name} {number}" for name, number in c["versions"].items() if number)
    return (
        f"Measured {c['date']} on {c['cores']} cores ({c['processor']}), one thread, Python {c['python']}; {versions}. "
        f"Killed after {c['limit_seconds']:g} s or at {c['limit_bytes'] / 1e9:g} GB."
    )


def _cells(r: Record) -> list[str]:
    if not r["ran"]:
        return [r["model"], "refused by the exporter" if r.get("refused") else "**no**", *[""] * 12]
    own = r.get("own_module", {})
    return [
        r["model"],
        "**yes, but**" if problems(r) else "yes",
        f"{r['prunable']:.4f}",
        "yes" if r["head"] else "no",
        str(r["groups"]),
        f"{at_outputs(r):.1e}",
        f"{r['error']:.1e}",
        f"{r['error_double']:.1e}",
        f"{own['error']:.1e} ({own['share']:.0%} of the units)" if "error" in own else "",
        *(f"{r[f'seconds_{step}']:.1f}" for step in _STEPS),
        f"{r['peak_bytes'] / 1e9:.2f}",
    ]


def _note(r: Record) -> str:
    """A line for each model that needs an explanation."""
    title = f"- {r['model']}: "
    if r.get("refused"):
        return title + r["refused"]
    said = problems(r)
    if r["ran"] and r["prunable"] < LEAST_PRUNABLE:
        reasons = "; ".join(f"{words} ({count:,})" for words, count in r["locks"])
        said.append(f"{r['prunable']:.3f} in prunable groups; locked: {reasons}")
    if r.get("unknown"):
        said.append("operators without a rule: " + ", ".join(f"{n} ({k}x)" for n, k in r["unknown"].items()))
    return title + "; ".join(said) if said else ""
