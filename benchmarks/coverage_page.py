"""The records of the coverage benchmark as tables in ``docs/coverage.md``: what is asked of a model, and the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def overview(sources: Mapping[str, Sequence[Record]], modules: Mapping[str, Sequence[str]]) -> str:
    """One row for each list of models and one for all of them, and what is left to do.

    Args:
        sources: records by source.
        modules: the models of each of timm's modules.
    """
    everything = [r for records in sources.values() for r in records]
    columns = [
        "list",
        "models",
        "cut, runs, equal",
        "refused by the exporter",
        "prunable, median with a head",
        f"prunable from {LEAST_PRUNABLE:g}",
        "seconds, median",
        "seconds, most",
        "GB, most",
    ]
    lines = _header(columns)
    for source, records in (*sources.items(), ("", everything)):
        lines.append(_row(_overview_cells(_TITLES.get(source, "**all**"), records)))
    said = [
        f"**{len(_done(everything))} of {len(everything)}** models are cut, run, and equal the reference."
    ]
    if timm := sources.get("timm"):
        good = {r["model"] for r in _done(timm)}
        whole = sum(set(models) <= good for models in modules.values())
        said[0] += (
            f" Of timm's modules it is **{whole} of {len(modules)}**, with every model of theirs that was tried."
        )
    left = [_left(r) for r in everything if problems(r)]
    if left:
        said += ["", "What is not as it should be:", "", *left]
    return "\n".join([*said, "", *lines])


def _overview_cells(title: str, records: Sequence[Record]) -> list[str]:
    done = _done(records)
    took = [total_seconds(r) for r in done]
    shares = [r["prunable"] for r in done if r.get("head")]
    return [
        title,
        str(len(records)),
        f"**{len(done)}**",
        str(sum(bool(r.get("refused")) for r in records)),
        f"{median(shares):.4f} ({len(shares)})" if shares else "",
        str(sum(r["prunable"] >= LEAST_PRUNABLE for r in done)),
        f"{median(took):.1f}" if took else "",
        f"{max(took):.0f}" if took else "",
        f"{max(r['peak_bytes'] for r in done) / 1e9:.1f}" if took else "",
    ]


def _done(records: Sequence[Record]) -> list[Record]:
    return [r for r in records if r["ran"] and not problems(r)]


def _left(r: Record) -> str:
    return f"- {_TITLES[r['source']]}, {r['model']}: {'; '.join(problems(r))}"


def summary(records: Sequence[Record]) -> str:
    """What holds over all models of a list, in a few sentences."""
    done = _done(records)
    if not done:
        return f"**0 of {len(records)}**"
    refused = sum(bool(r.get("refused")) for r in records)
    own = [r["own_module"]["error"] for r in done if "error" in r.get("own_module", {})]
    parts = [
        f"**{len(done)} of {len(records)}** models are cut, run, and equal the reference"
        + (f"; {refused} are refused by the exporter itself" if refused else ""),
        f"the largest relative error is {max(at_outputs(r) for r in done):.1e} at the outputs in fp32 and "
        f"{max(r['error_double'] for r in done):.1e} at every node in fp64, and {max(own, default=0.0):.1e} on the "
        f"owner's own module in fp64, where {len(own)} could be checked",
    ]
    return ". ".join(p[0].upper() + p[1:] for p in parts) + "."


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
    lines += _header(columns)
    lines += [_row(_cells(r)) for r in records]
    notes = [note for r in records if (note := _note(r))]
    return "\n".join([*lines, *(["", *notes] if notes else [])])


def _header(columns: Sequence[str]) -> list[str]:
    return [_row(columns), "|---" * len(columns) + "|"]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def header(c: dict[str, Any], records: Sequence[Record]) -> str:
    """The conditions in words; each record has its day, the rest is that of the last run."""
    days = sorted({r["date"] for r in records})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    versions = ", ".join(f"{name} {number}" for name, number in c["versions"].items() if number)
    return (
        f"Measured {when} on {c['cores']} cores ({c['processor']}), one thread, Python {c['python']}; {versions}. "
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
