from __future__ import annotations

import pytest
import torch
import torchvision_ops

from secateur.cli.datasets import resolve_data
from secateur.data import split_data
from secateur.errors import RecipeError, UnknownName

datasets = pytest.importorskip("datasets")
Image = pytest.importorskip("PIL.Image")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def images(tmp_path):
    for part in ("train", "validation"):
        for i, name in enumerate(("cat", "dog") * 3):
            folder = tmp_path / "images" / part / name
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (6, 4), (40 * i, 0, 0)).save(folder / f"{i}.png")
    return tmp_path / "images"


@pytest.fixture
def texts(tmp_path):
    rows = ['{"text": "good film", "label": 1}', '{"text": "bad film", "label": 0}'] * 4
    (tmp_path / "texts").mkdir()
    for part in ("train", "validation"):
        (tmp_path / "texts" / f"{part}.jsonl").write_text("\n".join(rows))
    return tmp_path / "texts"


@pytest.fixture
def tokenizer(tmp_path):
    torchvision_ops.define()
    transformers = pytest.importorskip("transformers")
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film"]))
    made = transformers.BertTokenizer(str(vocabulary))
    made.save_pretrained(tmp_path / "tokenizer")
    return str(tmp_path / "tokenizer")


def test_images(images):
    train, test, labels = resolve_data(f"hf:{images}", {"batch_size": 4})
    assert labels == ("cat", "dog")
    x, y = next(iter(test))
    assert x.shape == (4, 3, 4, 6) and y.tolist() == [0, 0, 0, 1]
    data = split_data(train, test, labels=labels)
    # One is held out; of the five that are left, a remainder of one sample is no batch.
    assert [len(y) for _, y in data.train] == [4] and [len(y) for _, y in data.select] == [1]


def test_texts(texts, tokenizer):
    _, test, labels = resolve_data(f"hf:{texts}", {"tokenizer": tokenizer, "max_length": 8, "batch_size": 4})
    assert labels is None  # the file names no classes
    batch = next(iter(test))
    assert batch["input_ids"].shape == (4, 8) and batch["labels"].tolist() == [1, 0, 1, 0]
    assert torch.equal(batch["input_ids"][0], batch["input_ids"][2])
    assert not torch.equal(batch["input_ids"][0], batch["input_ids"][1])


def test_wrong_names(images, texts):
    with pytest.raises(RecipeError, match="name a tokenizer"):
        resolve_data(f"hf:{texts}")
    with pytest.raises(UnknownName, match="no split 'trian'"):
        resolve_data(f"hf:{images}", {"train": "trian"})
    with pytest.raises(UnknownName, match="no split 'test'; there are train, validation"):
        resolve_data(f"hf:{images}", {"evaluate": "test"})
    with pytest.raises(UnknownName, match=r"no column 'imag'.*did you mean image"):
        resolve_data(f"hf:{images}", {"inputs": "imag"})
