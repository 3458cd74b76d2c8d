from __future__ import annotations

import os

import pytest
import torch

from secateur.errors import CorruptFile, RunFolderError
from secateur.recovery import checkpoint
from secateur.recovery.checkpoint import Checkpoint


def point(key="k"):
    weights = {"w": torch.randn(3, 4), "n": torch.tensor(5)}
    moments = {0: {"step": torch.tensor(2.0), "exp_avg": torch.randn(3, 4), "note": 1}}
    return Checkpoint(
        key, weights, {k: v + 1 for k, v in weights.items()}, moments, {"epochs": [], "loss": 0.5}
    )


def test_round_trip(tmp_path):
    saved = point()
    checkpoint.save(tmp_path, saved)
    found = checkpoint.load(tmp_path, "k")
    assert found is not None and found.facts == saved.facts
    assert all(torch.equal(found.model[k], saved.model[k]) for k in saved.model)
    assert all(torch.equal(found.best[k], saved.best[k]) for k in saved.best)
    assert torch.equal(found.optimizer[0]["exp_avg"], saved.optimizer[0]["exp_avg"])
    assert found.optimizer[0]["note"] == 1


def test_none_and_another(tmp_path):
    assert checkpoint.load(tmp_path, "k") is None
    checkpoint.save(tmp_path, point("other"))
    assert checkpoint.load(tmp_path, "k") is None


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"\x00" * 40, lambda b: b""])
def test_a_damaged_file_is_told(tmp_path, damage):
    checkpoint.save(tmp_path, point())
    path = tmp_path / checkpoint.NAME
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CorruptFile, match="delete it"):
        checkpoint.load(tmp_path, "k")


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, point())
    before = (tmp_path / checkpoint.NAME).read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunFolderError, match="No space left"):
        checkpoint.save(tmp_path, point())
    assert [p.name for p in tmp_path.iterdir()] == [checkpoint.NAME]
    assert (tmp_path / checkpoint.NAME).read_bytes() == before


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError):
        checkpoint.save(tmp_path / "file", point())
