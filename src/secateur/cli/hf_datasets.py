"""Hugging Face data sets for classification: images or text, from a local folder or the hub.

The columns are found by their types (an image or a text, and a class label), or named by options. Text needs a
tokenizer and becomes dict batches with ``labels``; images become ``(inputs, target)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from secateur.cli.imagefolder import Finish, ImageOptions
from secateur.cli.objects import closest, has_package, told
from secateur.errors import DataError, MissingExtra, RecipeError, UnknownName

EVALUATION = ("test", "validation", "val", "dev")


@dataclass(frozen=True)
class HubOptions:
    """How a Hugging Face data set becomes batches.

    Args:
        config: name of the configuration, where the data set has several.
        train, evaluate: names of the splits; ``evaluate`` defaults to the first of test, validation, val, dev.
        inputs, second, labels: columns; by default found by type. ``second`` is the other text of a pair.
        tokenizer, max_length: for text.
        size, mean, std, augment: for images, as for image folders.
        batch_size: samples per batch.
    """

    config: str | None = None
    train: str = "train"
    evaluate: str | None = None
    inputs: str | None = None
    second: str | None = None
    labels: str | None = None
    tokenizer: str | None = None
    max_length: int = 128
    size: int | Sequence[int] | None = None
    mean: Sequence[float] = (0.485, 0.456, 0.406)
    std: Sequence[float] = (0.229, 0.224, 0.225)
    augment: bool = True
    batch_size: int = 32


def hub_data(name: str, options: HubOptions) -> tuple[Any, Any, tuple[str, ...] | None]:
    """The training loader, the evaluation loader and the names of the classes.

    Raises:
        MissingExtra: ``datasets`` (or ``transformers``, for text) is not installed.
        UnknownName: no such data set, split or column.
        RecipeError: text without a tokenizer.
    """
    where = f"data 'hf:{name}'"
    found = _read(name, options, where)
    if options.train not in found:
        raise UnknownName(f"{where} have no split {options.train!r}; there are {', '.join(found)}")
    evaluate = options.evaluate or next((s for s in EVALUATION if s in found), None)
    if evaluate is None or evaluate not in found:
        raise UnknownName(
            f"{where} have no split {evaluate or 'to evaluate on'!r}; there are {', '.join(found)}"
        )
    train, test = found[options.train], found[evaluate]
    features = train.features
    labels = options.labels or _column(
        features, ("ClassLabel",), ("label", "labels", "target"), where, "labels"
    )
    inputs = options.inputs or _column(
        features, ("Image",), ("image", "img", "text", "sentence", "sentence1"), where, "inputs"
    )
    for column in (inputs, labels, options.second):
        if column is not None and column not in features:
            raise UnknownName(
                f"{where} have no column {column!r}; there are {', '.join(features)}{closest(column, features)}"
            )
    names = getattr(features[labels], "names", None)
    if type(features[inputs]).__name__ == "Image":
        loaders = _images(train, test, inputs, labels, options)
    else:
        loaders = _texts(train, test, inputs, labels, options, where)
    return (*loaders, tuple(names) if names else None)


def _read(name: str, options: HubOptions, where: str) -> Any:
    if not has_package("datasets"):
        raise MissingExtra("datasets", "transformers", where)
    import datasets

    try:
        if (Path(name) / "dataset_dict.json").is_file():
            return datasets.load_from_disk(name)
        return datasets.load_dataset(name, options.config)
    except Exception as error:
        raise UnknownName(
            f"{where} were not found, neither as a folder nor on the hub: {told(error)}"
        ) from error


def _column(features: Any, kinds: Sequence[str], names: Sequence[str], where: str, what: str) -> str:
    for column, feature in features.items():
        if type(feature).__name__ in kinds:
            return str(column)
    for column in names:
        if column in features:
            return column
    raise UnknownName(
        f"{where}: no column looks like the {what}; name one of {', '.join(features)} with the option {what!r}"
    )


class _Images(Dataset[Any]):
    """Rows of an image column as uint8 ``[C, H, W]`` tensors and class indices."""

    def __init__(self, rows: Any, inputs: str, labels: str, size: tuple[int, ...]) -> None:
        self.rows, self.inputs, self.labels, self.size = rows, inputs, labels, size

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        from PIL import ImageOps

        try:
            row = self.rows[int(index)]
            image = row[self.inputs].convert("RGB")
        except Exception as error:
            raise DataError(
                f"image {index} of the data set cannot be read ({type(error).__name__})"
            ) from error
        if image.size != (self.size[1], self.size[0]):
            image = ImageOps.fit(image, (self.size[1], self.size[0]))
        flat = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        return flat.view(*self.size, 3).permute(2, 0, 1), torch.tensor(row[self.labels])


def _images(train: Any, test: Any, inputs: str, labels: str, options: HubOptions) -> tuple[Any, Any]:
    look = ImageOptions(size=options.size, mean=options.mean, std=options.std, augment=options.augment)
    size = look.pair or train[0][inputs].size[::-1]
    loaders = []
    for rows, training in ((train, True), (test, False)):
        finish = Finish(look, options.augment and training)
        dataset = _Images(rows, inputs, labels, size)
        loaders.append(DataLoader(dataset, options.batch_size, shuffle=training, collate_fn=finish))
    return loaders[0], loaders[1]


class _Texts(Dataset[Any]):
    """Rows of text columns, as they are."""

    def __init__(self, rows: Any, columns: list[str], labels: str) -> None:
        self.rows, self.columns, self.labels = rows, columns, labels

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[tuple[str, ...], Any]:
        row = self.rows[int(index)]
        return tuple(row[c] for c in self.columns), row[self.labels]


class _Tokens:
    """Collation: texts to the tokenizer's tensors, padded to one fixed length, with ``labels``."""

    def __init__(self, tokenizer: Any, length: int) -> None:
        self.tokenizer, self.length = tokenizer, length

    def __call__(self, batch: list[tuple[tuple[str, ...], Any]]) -> dict[str, Tensor]:
        columns = [list(column) for column in zip(*(texts for texts, _ in batch), strict=True)]
        tokens = self.tokenizer(
            *columns, padding="max_length", truncation=True, max_length=self.length, return_tensors="pt"
        )
        return {**tokens, "labels": torch.tensor([target for _, target in batch])}


def _texts(
    train: Any, test: Any, inputs: str, labels: str, options: HubOptions, where: str
) -> tuple[Any, Any]:
    if options.tokenizer is None:
        raise RecipeError(
            f"{where} are text: name a tokenizer with the option 'tokenizer' (usually the model's name)"
        )
    if not has_package("transformers"):
        raise MissingExtra("transformers", "transformers", f"text of {where}")
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(options.tokenizer, trust_remote_code=False)
    except Exception as error:
        raise UnknownName(f"tokenizer {options.tokenizer!r} was not found: {told(error)}") from error
    columns = [inputs] if options.second is None else [inputs, options.second]
    collate = _Tokens(tokenizer, options.max_length)
    return (
        DataLoader(_Texts(train, columns, labels), options.batch_size, shuffle=True, collate_fn=collate),
        DataLoader(_Texts(test, columns, labels), options.batch_size, collate_fn=collate),
    )
