from __future__ import annotations

import sys

import pytest
import torch

from secateur.cli.datasets import resolve_data
from secateur.cli.imagefolder import Finish, ImageOptions, cropped, flipped
from secateur.data import evaluate, split_data
from secateur.errors import DataError, MissingExtra, RecipeError, UnknownName
from secateur.task import classification

Image = pytest.importorskip("PIL.Image")

RED, GREEN = (200, 0, 0), (0, 200, 0)


def folder(root, size=(8, 6), counts=(("train", 5), ("test", 2)), suffix="png"):
    for part, count in counts:
        for name, colour in (("zebra", RED), ("ant", GREEN)):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", size, colour).save(root / part / name / f"{i}.{suffix}")
    return root


def test_digits():
    pytest.importorskip("sklearn")
    train, test, labels = resolve_data("digits", {"batch_size": 16})
    again = resolve_data("digits")
    assert labels == tuple("0123456789")
    x, y = next(iter(train))
    assert x.shape == (16, 1, 24, 24) and y.dtype == torch.int64
    assert len(train.dataset) == 1258 and len(test.dataset) == 539
    assert torch.equal(test.dataset.tensors[0], again.evaluate.dataset.tensors[0])
    counts = torch.bincount(test.dataset.tensors[1])
    assert counts.min() >= 50 and counts.max() <= 57
    everything = torch.cat([train.dataset.tensors[0], test.dataset.tensors[0]])
    assert abs(float(everything.mean())) < 0.05 and abs(float(everything.std()) - 1) < 0.1
    # No image is on both sides (the data set has no duplicates).
    assert len(everything.flatten(1).unique(dim=0)) == 1797


def test_digits_can_be_split_and_fingerprinted():
    pytest.importorskip("sklearn")
    train, test, labels = resolve_data("digits")
    data = split_data(train, test, labels=labels)
    assert sum(len(y) for _, y in data.select) == 126
    assert sum(len(y) for _, y in data.evaluate) == 539
    assert data.example_inputs.shape == (2, 1, 24, 24)


def test_image_folder(tmp_path):
    train, test, labels = resolve_data(
        f"imagefolder:{folder(tmp_path)}",
        {"batch_size": 4, "mean": [0.5] * 3, "std": [0.5] * 3, "augment": False},
    )
    assert labels == ("ant", "zebra")
    x, y = next(iter(test))
    assert x.shape == (4, 3, 6, 8) and y.tolist() == [0, 0, 1, 1]
    ant, zebra = x[0, :, 0, 0], x[2, :, 0, 0]
    high, low = (200 / 255 - 0.5) / 0.5, -1.0
    assert ant.tolist() == pytest.approx([low, high, low]) and zebra.tolist() == pytest.approx(
        [high, low, low]
    )
    assert sorted(int(t) for _, ys in train for t in ys) == [0] * 5 + [1] * 5


@pytest.mark.parametrize("cache", [0, 10**9])
def test_image_folder_gives_the_same_with_and_without_its_cache(tmp_path, cache):
    for i, shade in enumerate((10, 90, 170, 250)):
        for part in ("train", "val"):
            (tmp_path / part / "one").mkdir(parents=True, exist_ok=True)
            Image.new("L", (4, 4), shade).save(tmp_path / part / "one" / f"{i}.png")
    options = {"channels": 1, "mean": [0.0], "std": [1.0], "cache": cache, "batch_size": 3}
    _, test, _ = resolve_data(f"imagefolder:{tmp_path}", options)
    found = torch.cat([x for x, _ in test])
    assert found.shape == (4, 1, 4, 4)
    assert found[:, 0, 0, 0].mul(255).round().int().tolist() == [10, 90, 170, 250]


def test_image_folder_resizes_and_crops_at_the_centre(tmp_path):
    _, test, _ = resolve_data(f"imagefolder:{folder(tmp_path, size=(40, 20))}", {"size": 10})
    assert next(iter(test))[0].shape == (4, 3, 10, 10)
    _, test, _ = resolve_data(f"imagefolder:{tmp_path}", {"size": [6, 12]})
    assert next(iter(test))[0].shape == (4, 3, 6, 12)


def test_image_folder_can_be_split_and_is_not_augmented_where_it_is_judged(tmp_path):
    train, test, labels = resolve_data(
        f"imagefolder:{folder(tmp_path, counts=(('train', 20), ('test', 4)))}", {"batch_size": 8}
    )
    data = split_data(train, test, labels=labels)
    for x, _ in data.select:
        assert torch.equal(x.amax((2, 3)), x.amin((2, 3)))  # one colour from edge to edge: nothing shifted in
    padded = [x for x, _ in data.train]
    assert any(not torch.equal(x.amax((2, 3)), x.amin((2, 3))) for x in padded)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 6 * 8, 2))
    assert 0 <= evaluate(model, data.evaluate, classification()).metric <= 1


def test_augmentation_moves_and_mirrors_whole_images():
    torch.manual_seed(0)
    images = torch.zeros(64, 1, 16, 16, dtype=torch.uint8)
    images[:, :, 8, 5] = 255
    moved = cropped(images)
    rows, columns = (moved[:, 0] == 255).nonzero()[:, 1], (moved[:, 0] == 255).nonzero()[:, 2]
    assert moved.shape == images.shape and len(rows) == 64
    assert set(rows.tolist()) == {6, 7, 8, 9, 10} and set(columns.tolist()) == {3, 4, 5, 6, 7}
    mirrored = flipped(images)
    assert {tuple(p) for p in (mirrored[:, 0] == 255).nonzero()[:, 1:].tolist()} == {(8, 5), (8, 10)}


def test_finish_takes_single_samples_too():
    finish = Finish(ImageOptions(mean=(0.0,) * 3, std=(1.0,) * 3), False)
    samples = [(torch.full((3, 2, 2), 255, dtype=torch.uint8), torch.tensor(i)) for i in range(2)]
    x, y = finish(samples)
    assert float(x.min()) == 1.0 and y.tolist() == [0, 1]


def test_wrong_image_folders(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        resolve_data(f"imagefolder:{tmp_path / 'nowhere'}")
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="expected train/<class>"):
        resolve_data(f"imagefolder:{tmp_path}")
    (tmp_path / "test").mkdir()
    with pytest.raises(DataError, match="no folders; one per class"):
        resolve_data(f"imagefolder:{tmp_path}")
    for part in ("train", "test"):
        (tmp_path / part / "ant").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        resolve_data(f"imagefolder:{tmp_path}")


def test_classes_only_in_the_evaluation_part(tmp_path):
    folder(tmp_path)
    (tmp_path / "test" / "yak").mkdir()
    with pytest.raises(DataError, match=r"classes that .* has not: yak"):
        resolve_data(f"imagefolder:{tmp_path}")


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    folder(tmp_path)
    (tmp_path / "train" / "ant" / "9.png").write_bytes(b"no image")
    train, test, _ = resolve_data(f"imagefolder:{tmp_path}")
    with pytest.raises(DataError, match=r"ant/9.png cannot be read") as raised:
        split_data(train, test)
    assert "\n" not in str(raised.value)


SOURCE = """
import torch
batches = [(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long))]
def pair(n=1): return batches * n, batches
def triple(): return batches, batches, ["a", "b"]
def single(): return batches
def fails(): raise OSError("disk gone")
"""


def test_own_data(here):
    (here / "my_data.py").write_text(SOURCE)
    assert len(resolve_data("my_data:pair", {"n": 3}).train) == 3
    assert resolve_data("my_data:triple").labels == ("a", "b")
    for name, kind, words in (
        ("my_data:single", RecipeError, r"expected \(train_loader, eval_loader\)"),
        ("my_data:fails", RecipeError, "OSError: disk gone"),
        ("my_data:pare", UnknownName, "did you mean pair"),
        ("digts", UnknownName, "did you mean digits"),
        ("imagefolder:", UnknownName, "none of the forms"),
    ):
        with pytest.raises(kind, match=words):
            resolve_data(name)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("digits", {"batchsize": 3}, "no option 'batchsize'.*did you mean batch_size"),
        ("digits", {"batch_size": 0}, "above 0"),
        ("imagefolder:.", {"sise": 3}, "did you mean size"),
        ("imagefolder:.", {"mean": [0.1, 0.2]}, "mean must have 3"),
        ("imagefolder:.", {"std": [0.0, 1.0, 1.0]}, "std must be above 0"),
        ("imagefolder:.", {"size": [1, 2, 3]}, "size must be"),
    ],
)
def test_wrong_options(name, options, words):
    with pytest.raises(RecipeError, match=words):
        resolve_data(name, options)


def test_missing_packages(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtra, match="scikit-learn"):
        resolve_data("digits")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match="datasets"):
        resolve_data("hf:somewhere")
