"""The records of ``coverage_forms.py`` as tables in ``docs/forms.md``: what comes back, and what stands in the way."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from statistics import median

from processes import Record

WAYS = ("uniform", "free")
MOST_ERROR = 1e-4
_TITLES = {"timm": "timm", "torchvision": "torchvision", "hf": "Hugging Face"}


def came_back(record: Record) -> bool:
    """Whether the class was handed out, is the owner's, and computes what the graph form does."""
    return record.get("form") == "module" and not wrong(record) and bool(record["same_class"])


def wrong(record: Record) -> bool:
    """Whether a class was handed out that differs from the graph form."""
    return record.get("form") == "module" and not (
        record["error_fresh"] <= MOST_ERROR and record["error"] <= MOST_ERROR and record["same_weights"]
    )


def detail(record: Record) -> str:
    """One way of one model in a few words."""
    if "problem" in record:
        return record["problem"] or ""
    shares = f"keeps {record['kept']:.2f} (untied {record['kept_untied']:.2f})"
    if record["form"] == "graph":
        return f"graph: {record['obstacle']}"
    return f"module, {max(record['error'], record['error_fresh']):.0e}, {shares}"


def overview(records: Sequence[Record]) -> str:
    """What holds over all models, and the obstacles by how often they are met."""
    lines = [_shares(records), "", "| in the way | uniform | free | for example |", "|---|---|---|---|"]
    counts = {way: Counter[str]() for way in WAYS}
    example: dict[str, str] = {}
    for record in records:
        for way in WAYS if record["ran"] else ():
            if not came_back(record[way]):
                words = _kind(record[way])
                counts[way][words] += 1
                example.setdefault(words, record["model"])
    total = counts["uniform"] + counts["free"]
    lines += [
        f"| {words} | {counts['uniform'][words]} | {counts['free'][words]} | {example[words]} |"
        for words, _ in total.most_common()
    ]
    return "\n".join(lines if total else lines[:1])


def section(source: str, records: Sequence[Record], conditions: str) -> str:
    """One source: the shares, the conditions, and a row for each model."""
    columns = ["model", "uniform", "kept", "untied", "free", "kept", "untied", "trace s", "probe s", "cut s"]
    lines = [f"### {_TITLES[source]}", "", _shares(records), "", conditions, ""]
    lines += [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    lines += [f"| {' | '.join(_cells(r))} |" for r in records]
    notes = [f"- {r['model']}: {_note(r)}" for r in records if _note(r)]
    return "\n".join([*lines, *(["", *notes] if notes else [])])


def _shares(records: Sequence[Record]) -> str:
    ran = [r for r in records if not r.get("refused")]
    parts = []
    for way in WAYS:
        back = [r[way] for r in ran if r["ran"] and came_back(r[way])]
        bad = sum(wrong(r[way]) for r in ran if r["ran"])
        share = len(back) / max(len(ran), 1)
        words = f"{way}: **{len(back)} of {len(ran)}** ({share:.0%}) in their own class, {bad} wrong"
        if back:
            kept, untied = (median(r[key] for r in back) for key in ("kept", "kept_untied"))
            idle = sum(1 - r["kept"] < 0.1 * (1 - r["kept_untied"]) for r in back)
            words += f"; {kept:.3f} of the parameters kept at the median, {untied:.3f} without ties"
            words += f"; {idle} with next to nothing cut" if idle else ""
        parts.append(words)
    refused = len(records) - len(ran)
    return ". ".join(p[0].upper() + p[1:] for p in parts) + (
        f". Refused by the exporter itself: {refused}." if refused else "."
    )


def _kind(record: Record) -> str:
    """An obstacle without the names and numbers of one model."""
    words = record.get("problem") or record.get("obstacle") or "differs"
    words = re.sub(r" at (\S+:\d+|an unknown line).*?'(?=: )|(?<=the attribute )'[^']*'", "", words)
    words = re.sub(r"\(\S+:\d+[^)]*\)|'[^']{30,}'", "...", words)
    return re.sub(r"\d[\d.e+-]*", "N", words).replace("|", "/")[:160]


def _cells(r: Record) -> list[str]:
    if not r["ran"]:
        return [r["model"], "refused by the exporter" if r.get("refused") else "**failed**", *[""] * 8]
    found = [r["model"]]
    for way in WAYS:
        one = r[way]
        state = "class" if came_back(one) else "**wrong**" if wrong(one) else "graph"
        found += [state, *(f"{one[k]:.3f}" if k in one else "" for k in ("kept", "kept_untied"))]
    cut = sum(r[way].get("seconds", 0.0) for way in WAYS) / len(WAYS)
    return [*found, *(f"{s:.1f}" for s in (r["seconds_trace"], r["seconds_probe"], cut))]


def _note(r: Record) -> str:
    """What stands in the way."""
    if not r["ran"]:
        return str(r.get("refused") or r["problem"])
    said = [r[way].get("problem") or r[way]["obstacle"] for way in WAYS if not came_back(r[way])]
    return "; ".join(dict.fromkeys(s for s in said if s))
