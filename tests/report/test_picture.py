"""The picture of groups: what it folds, where its lanes run, and that nothing leaves the page."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from secateur.report import by_cause, folded, held, name_range, picture
from secateur.report.coupled import Block, Weight, coupled
from secateur.report.lanes import LANES, place_lanes, place_rows

SVG = "{http://www.w3.org/2000/svg}"


def weight(name: str, *shape: int) -> dict[str, Any]:
    size = 1
    for n in shape:
        size *= n
    return {"param": f"{name}.weight", "shape": list(shape), "params": size, "prunable_share": 1.0}


def group(name: str, units: int, *axes: str, params: int = 100) -> dict[str, Any]:
    """Axes as ``layer>`` (makes the units), ``>layer`` (reads them), with ``*n`` for n positions for each unit."""
    members = []
    for text in axes:
        layer, _, times = text.partition("*")
        reads = layer.startswith(">")
        members.append(
            {
                "param": f"{layer.strip('>')}.weight",
                "axis": 1 if reads else 0,
                "multiplicity": int(times or 1),
                "reads": reads,
            }
        )
    return {"name": name, "units": units, "params": params, "axes": members}


def lock(layer: str, axis: int, size: int, component: int, **other: Any) -> dict[str, Any]:
    return {
        "param": f"{layer}.weight", "axis": axis, "size": size, "positions": size, "params": 64, "reads": axis == 1,
        "component": component, "kind": "output", "operator": "output",
        "reason": "it is an output of the model: axis 1 of 'logits'", "source": "-", "layer": "", "remedy": "-",
        "further": [], **other,
    }  # fmt: skip


def residual(blocks: int, wide: int = 32) -> dict[str, Any]:
    """A stem, blocks of two layers on a residual stream, and a head whose outputs are locked."""
    weights = [weight("stem", 16, 3)]
    groups = [
        group(
            "stem.weight:0", 16, "stem>", *(f"blocks.{i}.down>" for i in range(blocks)),
            *(f">blocks.{i}.up" for i in range(blocks)), ">head", params=1000,
        )
    ]  # fmt: skip
    for i in range(blocks):
        weights += [weight(f"blocks.{i}.up", wide, 16), weight(f"blocks.{i}.down", 16, wide)]
        groups.append(group(f"blocks.{i}.up.weight:0", wide, f"blocks.{i}.up>", f">blocks.{i}.down"))
    weights.append(weight("head", 4, 16))
    total = sum(w["params"] for w in weights)
    locked = [
        lock("head", 0, 4, 0),
        lock("stem", 1, 3, 1, kind="input", operator="input", reason="it meets an input"),
    ]
    return {"params": total, "prunable_share": 0.9, "weights": weights, "groups": groups, "locked": locked}


def test_blocks_that_repeat_are_one() -> None:
    stem, block, head = coupled(residual(12)).lines
    assert isinstance(stem, Weight) and isinstance(head, Weight)
    assert isinstance(block, Block) and (block.title, block.times) == ("blocks.[0–11]", 12)
    assert [line.param for line in block.lines if isinstance(line, Weight)] == [
        "blocks.0.up.weight", "blocks.0.down.weight",
    ]  # fmt: skip


def test_a_block_of_another_width_stands_apart() -> None:
    record = residual(5)
    for w in record["weights"]:
        if "blocks.2." in w["param"]:
            w["shape"] = [24 if n == 32 else n for n in w["shape"]]
    lines = coupled(record).lines
    assert [line.title if isinstance(line, Block) else line.param for line in lines] == [
        "stem.weight", "blocks.[0–1]", "blocks.2.up.weight", "blocks.2.down.weight", "blocks.[3–4]", "head.weight",
    ]  # fmt: skip


def test_a_block_that_another_reads_stands_apart() -> None:
    """Equal shapes are not enough: what the third block makes is read by the head as well."""
    record = residual(4)
    record["groups"][3]["axes"].append({"param": "head.weight", "axis": 1, "multiplicity": 1, "reads": True})
    titles = [line.title for line in coupled(record).lines if isinstance(line, Block)]
    assert titles == ["blocks.[0–1]"]


def test_what_a_strand_is() -> None:
    record = residual(2)
    record["groups"].append(group("blocks.0.up.weight:0#2", 4, "blocks.0.up>*8", ">blocks.0.down*8"))
    kinds = {strand.name: strand.kind for strand in coupled(record).strands.values()}
    assert kinds == {
        "stem.weight:0": "stream", "blocks.0.up.weight:0": "channels", "blocks.1.up.weight:0": "channels",
        "blocks.0.up.weight:0#2": "wide", "head.weight:0": "locked", "stem.weight:1": "locked",
    }  # fmt: skip


def test_lanes_never_cross_and_long_ones_stand_left() -> None:
    record = residual(3)
    record["weights"][3]["shape"] = [40, 16]  # so that nothing is folded
    shown = coupled(record)
    rows, _ = place_rows(shown, 100.0)
    lanes, left_out = place_lanes(rows, shown.strands)
    assert left_out == 0 and len(lanes) == len(shown.strands)
    stream = lanes["group stem.weight:0"]
    assert (stream.first, stream.last) == (0, len(rows) - 1)
    assert stream.x == min(lane.x for lane in lanes.values())
    assert stream.width == max(lane.width for lane in lanes.values())
    taken = [(lane.x, row) for lane in lanes.values() for row in range(lane.first, lane.last + 1)]
    assert len(taken) == len(set(taken))


def inside(svg: str) -> ET.Element:
    """The picture, parsed; every shape and the start of every text lie within the view box."""
    root = ET.fromstring(svg)
    _, _, width, height = (float(n) for n in root.attrib["viewBox"].split())
    for element in root.iter():
        at = element.attrib
        for key in ("x", "cx", "x1", "x2"):
            assert 0 <= float(at.get(key, 0)) <= width
        for key in ("y", "cy", "y1", "y2"):
            assert 0 <= float(at.get(key, 0)) <= height
        if element.tag == f"{SVG}rect":
            assert float(at["x"]) + float(at["width"]) <= width + 0.1
            assert float(at["y"]) + float(at["height"]) <= height + 0.1
            assert float(at["width"]) >= 0 and float(at["height"]) >= 0
    return root


def texts(root: ET.Element) -> list[str]:
    return ["".join(t for t in e.itertext()) for e in root.iter(f"{SVG}text")]


def test_it_says_what_is_coupled_and_what_is_locked() -> None:
    root = inside(picture(residual(12), "a <model> & more"))
    said = texts(root)
    assert "a <model> & more" in said and "12 × blocks.[0–11]" in said
    assert any("16 units" in t for t in said) and any("32 units" in t and "each" in t for t in said)
    assert any("4 locked" in t and "output 'logits'" in t for t in said)
    assert any(t.startswith("locked by output: it is an output of the model") for t in said)
    classes = [e.attrib.get("class", "") for e in root.iter()]
    # Two layers of the block, stem and head: each makes one strand and reads one.
    assert sum(c.startswith("writes ") for c in classes) == 4 + 1  # and the legend's
    assert sum(c.startswith("reads ") for c in classes) == 4 + 1
    assert sum(c == "lane stream" for c in classes) == 1 + 1


@pytest.mark.parametrize("count", [0, 1, 3, 300])
def test_any_number_of_groups(count: int) -> None:
    """A chain of layers, each read by the next and by the last: as many lanes side by side as there are groups."""
    names = [f"layer_{'x' * 60}.{i}.{'ab'[i % 2]}" for i in range(count)]
    weights = [weight(n, 8 + i, 8) for i, n in enumerate(names)]
    reads = [[f">{names[-1]}"] if n != names[-1] else [] for n in names]
    groups = [group(f"{n}.weight:0", 8, f"{n}>", *r) for n, r in zip(names, reads, strict=True)]
    record = {"params": 1000, "prunable_share": 1.0, "weights": weights, "groups": groups, "locked": []}
    root = inside(picture(record, "chain"))
    assert sum(e.attrib.get("class") == "name" for e in root.iter()) == count
    lanes = [e for e in root.iter(f"{SVG}rect") if e.attrib.get("class") == "lane channels"]
    assert len(lanes) == (min(count, 60) + 1 if count else 0)
    assert any("not drawn" in t for t in texts(root)) == (count == 300)
    assert all(float(e.attrib["x"]) >= LANES - 1 for e in lanes[1:])


def test_it_needs_nothing_else() -> None:
    svg = picture(residual(2), "net")
    assert not re.search(r"(href|url\(|@import|<script|<image)", svg)
    assert "prefers-color-scheme: dark" in svg
    used = set(re.findall(r"var\((--\w+)\)", svg))
    assert used == set(re.findall(r"(--\w+):", svg)) and len(used) > 8


def test_parameters_of_a_lock_count_once() -> None:
    locks = [
        lock("a", 0, 8, 0), lock("a", 1, 8, 0), lock("b", 0, 8, 1, reason="axis 2 of 'x.1'"),
        lock("c", 0, 8, 2, reason="axis 2 of 'x.2'", params=500),
    ]  # fmt: skip
    assert held(locks[:2]) == 64
    causes = by_cause(locks)
    assert [(len(c.locks), c.params) for c in causes] == [(2, 564), (2, 64)]


@pytest.mark.parametrize(
    ("names", "short"),
    [
        ([], []),
        (["b.0.x", "b.0.y", "b.1.x", "b.1.y"], ["b.[0–1].x", "b.[0–1].y"]),
        (["l1.0.c", "l1.1.c", "l2.0.c", "l2.1.c"], ["l1.[0–1].c", "l2.[0–1].c"]),
        (["c1", "c2", "c4", "bn"], ["c[1–2]", "c4", "bn"]),
        (["a.9", "a.10", "a.10"], ["a.[9–10]"]),
    ],
)
def test_names_fold(names: list[str], short: list[str]) -> None:
    assert folded(names) == short


def test_ranges_of_names() -> None:
    assert name_range(["a.3.b", "a.7.b"]) == "a.[3–7].b"
    assert name_range(["a.3.b1", "a.7.b2"]) == "a.3.b1 … a.7.b2"
    assert name_range(["a", "a"]) == "a"
