"""Journal, run folder and recipe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from secateur.errors import CorruptFile, RecipeError, RunFolderError
from secateur.pipeline.folder import open_folder
from secateur.pipeline.journal import Journal
from secateur.planning import Budget
from secateur.recipe import Recipe, read_recipe, recipe_from

RECIPE = Recipe(budget=Budget(macs="0.5x"))
HASHES = {"model": "m", "data": "d"}


def test_journal_replays_and_forgets_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    assert journal.step("one", lambda: {"value": 1}) == {"value": 1}
    assert journal.step("two", lambda a: [a], 2) == [2]
    with open(path, "a") as file:
        file.write('{"step": "three", "outc')
    again = Journal(path)
    assert again.step("one", lambda: pytest.fail("done before")) == {"value": 1}
    assert "three" not in again
    assert again.step("three", lambda: 3) == 3
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == ["one", "two", "three"]


def test_altered_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_text(
        '{"step": "one", "outcome": 1}\nnonsense\n{"step": "two", "outcome": 2}\n'
    )
    with pytest.raises(CorruptFile, match="line 2"):
        Journal(tmp_path / "journal.jsonl")


def test_full_disk_while_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "journal.jsonl")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("secateur.pipeline.journal.os.fsync", full)
    with pytest.raises(RunFolderError, match="No space left on device"):
        journal.step("one", lambda: 1)


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunFolderError, match="holds no run"), open_folder(tmp_path, RECIPE, HASHES):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(RunFolderError, match="is a file"), open_folder(tmp_path / "run", RECIPE, HASHES):
        pass


def test_unwritable_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with (
        pytest.raises(RunFolderError, match="Read-only file system"),
        open_folder(tmp_path / "run", RECIPE, HASHES),
    ):
        pass
    assert not (tmp_path / "run").exists()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with (
        open_folder(tmp_path / "run", RECIPE, HASHES),
        pytest.raises(RunFolderError, match="another process"),
        open_folder(tmp_path / "run", RECIPE, HASHES),
    ):
        pass


def test_recipe_round_trip(tmp_path: Path) -> None:
    import yaml

    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(RECIPE.to_dict()))
    again = recipe_from(read_recipe(path))
    assert again == RECIPE and again.digest == RECIPE.digest
    assert Recipe(budget=Budget(macs="0.6x")).digest != RECIPE.digest


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"budgt": {"macs": "0.5x"}}, "no option 'budgt'"),
        ({"budget": {"speed": "2x"}}, "no option 'speed'"),
        ({"budget": {"macs": "half"}}, "macs=half"),
        ({"budget": {"macs": "1.5x"}}, "more than the dense model"),
        ({"budget": {"drop": -1.0}}, "must be positive"),
        ({"budget": {}}, "no budget was given"),
        ({"budget": {"macs": "0.5x"}, "minimise": "latency"}, "minimise=latency goes with drop="),
        ({"budget": {"drop": 1.0}, "minimise": "energy"}, "minimise=energy is not one of"),
        ({"budget": {"macs": "0.5x"}, "criterion": {"name": "vibes"}}, "criterion=vibes is not one of"),
        ({"budget": {"macs": "0.5x"}, "seed": "seven"}, "seed must be int"),
        ({"budget": {"macs": "0.5x"}, "recovery": {"lr": 0.0}}, "lr=0.0 must be positive"),
        ({"budget": {"macs": "0.5x"}, "schedule": {"most": 1.5}}, "between 0 and 1"),
        ({"budget": "0.5x"}, "must be a mapping"),
        ({"budget": {"sparsity": 0.8}}, "sparsity= is not available"),
    ],
)
def test_wrong_recipes_say_what_is_wrong(data: dict[str, object], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_from(data)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unreadable_recipe_files(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot read"):
        read_recipe(tmp_path / "missing.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1, 2")
    with pytest.raises(RecipeError, match="no YAML"):
        read_recipe(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(RecipeError, match="mapping"):
        read_recipe(tmp_path / "list.yaml")
