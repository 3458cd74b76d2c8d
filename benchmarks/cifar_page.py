"""The records of the CIFAR benchmark as tables in ``docs/cifar.md``, between markers; the prose around them stays."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from secateur.files import whole_file


def update(page: Path, sections: dict[str, str]) -> None:
    """Replaces what stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``; missing markers are put at the end."""
    text = page.read_text() if page.is_file() else ""
    for name, body in sections.items():
        block = f"<!-- {name} -->\n{body.strip()}\n<!-- /{name} -->"
        pattern = re.compile(rf"<!-- {re.escape(name)} -->.*?<!-- /{re.escape(name)} -->", re.DOTALL)
        if pattern.search(text):
            text = pattern.sub(lambda _, block=block: block, text)
        else:
            text = f"{text.rstrip()}\n\n{block}\n"
    write_text(page, text)


def write_text(path: Path, text: str) -> None:
    """A file, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text)


def free_table(record: dict[str, Any]) -> str:
    """Training-free cuts of one network."""
    rows = [r for r in record["rows"] if not r["criterion"].startswith("random")]
    rows += list(_means(r for r in record["rows"] if r["criterion"].startswith("random")))
    # Stable: the order of the run within one budget and one tool.
    rows.sort(key=lambda r: (-float(r["asked"].removesuffix("x")), r["tool"] != "Secateur"))
    lines = [
        f"{record['network']}: dense {_share(record['dense'])} on {record['test_images']:,} test images; "
        f"{_share(record['dense_recalibrated'])} with its own batch-norm statistics measured anew on "
        f"{record['recalibrated_on']:,} training images. Measured {record['date']}, {record['versions']}.",
        "",
        "| budget | tool | criterion | allocation | multiple of | MACs | parameters | after the cut | recalibrated "
        "| reconstructed | check | seconds, reconstruction |",
        "|---" * 12 + "|",
    ]
    for r in rows:
        start = f"| {r['asked']} | {r['tool']} | {r['criterion']} | {r['allocator']} | {r['multiple']} |"
        if r["failed"]:
            lines.append(f"{start} {_cell(r['failed'])} | | | | | | {r['seconds']:.1f} |")
            continue
        check = "none" if r["error"] is None else f"{r['error']:.1e}"
        solved = "" if r.get("reconstructed") is None else f"**{_share(r['reconstructed'])}**"
        took = f", {r['reconstruction_seconds']:.1f}" if solved else ""
        fewer = f"{r['macs']:.3f}x ({1 / r['macs']:.2f}x fewer)"
        lines.append(
            f"{start} {fewer} | {r['params']:.3f}x | {_share(r['cut'])} | {_share(r['recalibrated'])} "
            f"| {solved} | {check} | {r['seconds']:.1f}{took} |"
        )
    return "\n".join(lines)


def recipe_table(record: dict[str, Any]) -> str:
    """One run of ``secateur compress``."""
    intro = (
        f"ResNet-20 adapted to these images, `macs={record['recipe']['budget']['macs']}` and "
        f"`drop={record['recipe']['budget']['drop']:g}`, {record['recipe']['recovery']['final_epochs']} epochs after "
        f"the last round. Measured {record['date']}, {record['versions']}. "
    )
    verdict = record.get("verdict")
    if verdict is None:
        return f"{intro}No verdict: exit status {record['exit_status']} after {record['seconds']:.0f} s."
    lines = [
        f"{intro}**{verdict['verdict']}** (exit status {record['exit_status']}) in {record['seconds'] / 60:.1f} min: "
        f"{verdict.get('headline', '')}",
        "",
        "| budget | asked | dense | achieved | met |",
        "|---|---|---|---|---|",
    ]
    for b in verdict["budgets"]:
        met = "yes" if b["met"] else "no"
        lines.append(
            f"| {b['kind']} | {b['asked']} | {_number(b['dense'])} | {_number(b['achieved'])} | {met} |"
        )
    metric = verdict["metric"]
    lines += [
        "",
        f"{metric['name'].capitalize()}: dense {_share(metric['dense'])}, pruned {_share(metric['pruned'])}, quantised "
        f"{_share(metric['quantized'])}.",
    ]
    if record.get("history"):
        lines += ["", "| round | MACs | before recovery | after |", "|---|---|---|---|"]
        for h in record["history"]:
            before, after = _share(h["metric_before"]), _share(h["metric_after"])
            lines.append(f"| {h['round']} | {h['macs']:,} | {before} | {after} |")
    return "\n".join(lines)


def _means(rows: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """Random seeds as one row for each budget: the means."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["asked"], []).append(row)
    for same in groups.values():
        fine = [r for r in same if not r["failed"]]
        if not fine:
            yield same[0]
            continue
        keys = ["macs", "params", "cut", "recalibrated", "seconds", "reconstructed", "reconstruction_seconds"]
        known = [k for k in keys if all(r.get(k) is not None for r in fine)]
        mean = {k: sum(r[k] for r in fine) / len(fine) for k in known}
        worst = max(r["error"] for r in fine)
        yield {**fine[0], **mean, "error": worst, "criterion": f"random, mean of {len(fine)} seeds"}


def _share(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"


def _number(value: Any) -> str:
    return (
        f"{value:,.4g}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else "not measured"
    )


def _cell(text: str) -> str:
    return text.replace("|", "/")[:120]
