"""The page: complete, self-contained, escaped, and honest about what is missing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from secateur.errors import CorruptFile, RunFolderError
from secateur.report import write_report

Make = Callable[..., Path]


class Outline(HTMLParser):
    """Collects the text, the ids, the headings and the targets of links, and checks that elements nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.headings: list[str] = []
        self.text: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        values = dict(attrs)
        if values.get("id"):
            self.ids.append(str(values["id"]))
        if "href" in values or "src" in values:
            self.links.append(str(values.get("href") or values.get("src")))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data.strip())


def outline(page: Path) -> Outline:
    found = Outline()
    found.feed(page.read_text(encoding="utf-8"))
    assert found.open == []
    return found


def text(page: Path) -> str:
    return " ".join(" ".join(outline(page).text).replace("\u00a0", " ").split())


def test_every_section_stands_in_its_order(make_run: Make, tmp_path: Path) -> None:
    page = write_report([make_run()], tmp_path / "report.html")
    headings = [h for h in outline(page).headings if h]
    assert headings == [
        "Budget met",
        "What was promised, what was reached",
        "Dense, pruned and quantised side by side",
        "The curve, round by round",
        "Widths before and after",
        "Latency, and how sure it is",
        "Class by class, worst first",
        "What simpler means give",
        "What was locked, and why",
        "How to reproduce",
    ]


def test_what_was_known_before_the_work_is_told(make_run: Make, tmp_path: Path) -> None:
    folder = make_run()
    file = folder / "analysis.json"
    record = json.loads(file.read_text())
    record |= {
        "suitability": {
            "words": "prune it. Half of the time is not changed",
            "dtypes": [
                {"dtype": "int8", "fixed": 0.5, "linear": 0.2, "products": 0.3, "half": 0.6, "least": 0.4,
                 "error": 0.03},
            ],
        },
        "forecast": {"rounds": 4, "epochs": 5, "hours": 0.5, "metric_untrained": 0.4321},
        "depth": {"tried": [{"removed": [], "loss": 1.5}, {"removed": ["layer3.4"], "loss": 0.875},
                            {"removed": ["layer3.4", "layer3.5"], "loss": None}]},
    }  # fmt: skip
    file.write_text(json.dumps(record))
    page = write_report([folder], tmp_path / "report.html")
    assert outline(page).headings.index("Known before the work") == 2
    said = text(page)
    for words in (
        "Prune it. Half of the time", "4 rounds, 5 epochs, about 30 minutes", "0.4321 on held-out data", "layer3.4",
        "1.500 without 0, 0.875 without 1 blocks", "off by 3.0 % at the median",
    ):  # fmt: skip
        assert words in said


def test_the_page_needs_nothing_from_outside_and_is_small(make_run: Make, tmp_path: Path) -> None:
    page = write_report([make_run()], tmp_path / "report.html")
    found, raw = outline(page), page.read_text(encoding="utf-8")
    assert all(link.startswith("#") for link in found.links)
    assert {link[1:] for link in found.links} <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))
    assert not found.tags & {"script", "link", "iframe", "img", "object"}
    assert not re.search(r"https?:|url\(|@import", raw)
    assert page.stat().st_size < 200_000


def test_large_networks_stay_under_two_megabytes(make_run: Make, met: Any, tmp_path: Path) -> None:
    layers = [
        {"name": f"features.{k}.block.conv", "operator": "conv2d", "units_before": 512, "units_after": 256}
        for k in range(600)
    ]
    classes = [
        {"name": f"class {k}", "dense": 0.8, "pruned": 0.79, "delta": -0.01, "interval": [-0.03, 0.01]}
        for k in range(1000)
    ]
    run = make_run(layers_json=layers, verdict_json=met(classes=classes))
    page = write_report([run], tmp_path / "report.html")
    assert "class 999" in text(page)
    assert page.stat().st_size < 2_000_000


def test_numbers_are_those_of_the_records(make_run: Make, tmp_path: Path) -> None:
    said = text(write_report([make_run()], tmp_path / "report.html"))
    for phrase in (
        "The pruned INT8 model is 2.1 times as fast",
        "2.09× faster 0.631 ms, was 1.32 ms",
        "3.15× smaller 0.361 MB, was 1.14 MB",
        "−0.45 points 97.8 %, was 98.2 %",
        "asked: at most 0.5× dense, 0.660 ms",
        "0.478× of dense; between 0.609 and 0.656 ms",
        "against dense fp32 3.66× faster",
        "8 rounds removed 76.1 % of the parameters and 72.8 % of the multiply-adds",
        "stage3.2.conv1 lost most: 128 units before, 24 now",
        "Worst: eight, −3.45 points. 1 of 10 classes fell by more than chance explains",
        "99.2 % of the parameters stand in 9 groups that can be pruned",
        "the machine was busy",
        "INT8 without pruning",
    ):
        assert phrase in said, phrase


def test_a_parameter_locked_along_two_axes_is_counted_once(make_run: Make, tmp_path: Path) -> None:
    said = text(write_report([make_run()], tmp_path / "report.html"))
    assert "4.10 k parameters held (0.4 %) What helps: cut the axis that is not rolled 2 axes" in said


def test_classes_come_worst_first(make_run: Make, tmp_path: Path) -> None:
    said = text(write_report([make_run()], tmp_path / "report.html")).split("Class by class, worst first")[1]
    order = [said.index(f" {name} ") for name in ("eight", "five", "one", "three")]
    assert order == sorted(order)


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", '"><img src=x>', "{{ 7 * 7 }}", "a & b"])
def test_names_from_users_are_escaped(make_run: Make, met: Any, tmp_path: Path, hostile: str) -> None:
    layer = {"name": hostile, "operator": hostile, "units_before": 8, "units_after": 4}
    lock = {
        "param": hostile,
        "axis": 0,
        "size": 1,
        "params": 1,
        "operator": hostile,
        "reason": hostile,
        "remedy": hostile,
        "positions": 1,
        "component": 0,
        "kind": "output",
        "reads": False,
    }
    axis = {"param": hostile, "axis": 1, "multiplicity": 1, "reads": True}
    coupled = {
        "weights": [{"param": hostile, "shape": [4, 4], "params": 16, "prunable_share": 1.0}],
        "groups": [{"name": hostile, "units": 4, "params": 16, "axes": [axis]}],
    }
    classes = [{"name": hostile, "dense": 0.9, "pruned": 0.8, "delta": -0.1, "interval": [-0.2, 0.0]}]
    metric = {"name": hostile, "dense": 0.98, "pruned": 0.97, "quantized": 0.97}
    run = make_run(
        layers_json=[layer],
        analysis_json={"params": 1, "prunable_share": 0.5, **coupled, "locked": [lock]},
        verdict_json=met(headline=hostile, reasons=[hostile], classes=classes, metric=metric),
        environment_json={hostile: {hostile: [hostile]}},
        recipe_yaml=f"model: {hostile!r}\n",
    )
    page = write_report([run], tmp_path / "report.html")
    found = outline(page)
    assert not found.tags & {"script", "img"}
    assert "".join(found.text).count(hostile) >= 8


def test_the_page_draws_which_layers_are_coupled(make_run: Make, tmp_path: Path) -> None:
    axes = [{"param": "a.weight", "axis": 0, "multiplicity": 1, "reads": False}]
    record = {
        "params": 12, "prunable_share": 1.0, "locked": [],
        "weights": [{"param": "a.weight", "shape": [4, 3], "params": 12, "prunable_share": 1.0}],
        "groups": [{"name": "a.weight:0", "units": 4, "params": 12, "axes": axes}],
    }  # fmt: skip
    drawn = write_report([make_run(analysis_json=record)], tmp_path / "report.html").read_text()
    assert drawn.count('<svg xmlns="http://www.w3.org/2000/svg"') == 1 and "4 units · 100" in drawn
    older = {k: v for k, v in record.items() if k != "weights"}
    assert (
        "as a picture" not in write_report([make_run(analysis_json=older)], tmp_path / "b.html").read_text()
    )


def test_a_missed_budget_says_so_in_words(make_run: Make, met: Any, tmp_path: Path) -> None:
    record = met(verdict="missed", headline="Missed by 10 %.")
    record["budgets"][0] |= {"achieved": 0.723, "interval": [0.53, 0.571], "met": False}
    said = text(write_report([make_run(verdict_json=record)], tmp_path / "report.html"))
    assert "Budget missed Missed by 10 %." in said
    assert "✕ not kept" in said
    assert "1 of 2 kept" in said


def test_an_infeasible_run_shows_the_nearest_and_no_empty_sections(make_run: Make, tmp_path: Path) -> None:
    budget = {
        "kind": "latency",
        "asked": "0.05x",
        "unit": "ms",
        "dense": 1.32,
        "achieved": 0.185,
        "met": False,
    }
    record = {
        "verdict": "infeasible",
        "headline": "No plan reaches 0.05×.",
        "reasons": [],
        "budgets": [budget],
    }
    nothing = dict.fromkeys(("history_jsonl", "measurements_jsonl", "layers_json"))
    page = write_report([make_run(verdict_json=record, **nothing)], tmp_path / "report.html")
    said = text(page)
    assert "Infeasible No plan reaches 0.05×." in said
    assert "nearest possible: 0.185 ms" in said
    assert "✕ out of reach" in said
    assert "Round by round" not in said
    assert "What was locked, and why" in said


@pytest.mark.parametrize(
    ("lost", "phrase"),
    [
        ("verdict_json", "Not finished This run has no verdict yet"),
        ("history_jsonl", "There is no history.jsonl in this run"),
        ("measurements_jsonl", "There is no measurements.jsonl in this run"),
        ("layers_json", "There is no layers.json in this run"),
        ("analysis_json", "There is no analysis.json in this run"),
        ("environment_json", "There is no environment.json in this run"),
        ("recipe_yaml", "There is no recipe.yaml in this run"),
    ],
)
def test_a_missing_record_is_named(make_run: Make, tmp_path: Path, lost: str, phrase: str) -> None:
    assert phrase in text(write_report([make_run(**{lost: None})], tmp_path / "report.html"))


def test_a_line_cut_short_by_a_crash_is_left_out_and_said(make_run: Make, tmp_path: Path) -> None:
    run = make_run()
    with (run / "history.jsonl").open("a") as file:
        file.write('{"round": 9, "fraction_cut": 0.7')
    said = text(write_report([run], tmp_path / "report.html"))
    assert "The last line of history.jsonl was cut short" in said
    assert "8 rounds removed" in said


def test_records_with_unexpected_types_are_shown_as_far_as_they_go(make_run: Make, tmp_path: Path) -> None:
    odd = {
        "verdict": "met",
        "metric": None,
        "budgets": [{"kind": "macs", "asked": 3}, 7],
        "classes": "none",
        "gains": None,
    }
    rounds = [
        {"round": 0, "metric_after": "high"},
        {"round": 1, "params": float("nan"), "fraction_cut": True},
    ]
    page = write_report([make_run(verdict_json=odd, history_jsonl=rounds)], tmp_path / "report.html")
    assert "Budget met" in text(page)


def test_a_resumed_run_shows_each_round_once(make_run: Make, tmp_path: Path) -> None:
    from secateur.report.read import read_run

    run = make_run()
    lines = (run / "history.jsonl").read_text().splitlines()
    (run / "history.jsonl").write_text("\n".join([*lines[:4], *lines[3:]]) + "\n")
    assert [r.number for r in read_run(run).rounds] == list(range(9))


def test_several_runs_stand_side_by_side(make_run: Make, met: Any, tmp_path: Path) -> None:
    first, second = make_run("first"), make_run("second", verdict_json=met(verdict="missed"))
    page = write_report([first, second], tmp_path / "both.html")
    found, said = outline(page), text(page)
    assert found.headings[0] == "2 runs compared"
    assert {"#r1", "#r2"} <= set(found.links)
    assert len(found.ids) == len(set(found.ids))
    assert said.index("✓ Budget met") < said.index("! Budget missed")


def test_a_folder_as_out_gets_report_html_and_nothing_else_is_left(make_run: Make) -> None:
    run = make_run()
    before = {p.name for p in run.iterdir()}
    assert write_report([run], run) == run / "report.html"
    assert {p.name for p in run.iterdir()} - before == {"report.html"}


def test_the_same_records_give_the_same_page(make_run: Make, tmp_path: Path) -> None:
    run = make_run()
    pages = [write_report([run], tmp_path / name).read_bytes() for name in ("a.html", "b.html")]
    assert pages[0] == pages[1]


def test_wrong_input_is_one_clear_line(make_run: Make, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    broken = make_run("broken", verdict_json='{"verdict": ')
    middle = make_run("middle", history_jsonl="{}\n{oops\n{}\n")
    cases: list[tuple[list[Path], Path, type[Exception], str]] = [
        ([], tmp_path / "r.html", RunFolderError, "no run folder"),
        ([tmp_path / "nowhere"], tmp_path / "r.html", RunFolderError, "is no folder"),
        ([empty], tmp_path / "r.html", RunFolderError, "holds no records"),
        ([broken], tmp_path / "r.html", CorruptFile, "verdict.json is no valid JSON"),
        ([middle], tmp_path / "r.html", CorruptFile, "history.jsonl, line 2"),
        ([make_run()], broken / "verdict.json" / "r.html", RunFolderError, "cannot write"),
    ]
    for runs, out, kind, phrase in cases:
        with pytest.raises(kind, match=phrase) as caught:
            write_report(runs, out)
        assert "\n" not in str(caught.value)
        assert not out.exists()
