"""Names of data sets to loaders: digits, image folders, Hugging Face data sets, and the user's own code.

Options come as plain values from the command line or a recipe, are checked by name and type here, and all have
defaults, so that a recipe can write them out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, NamedTuple

import torch

from secateur.cli.objects import called, closest, has_package, import_object
from secateur.errors import MissingExtra, RecipeError, UnknownName

FORMS = "digits, imagefolder:PATH, hf:NAME_OR_PATH or package.module:callable"


class Loaders(NamedTuple):
    """What a data set gives: batches to train on and to record with, and the classes' names if it knows them."""

    train: Any
    evaluate: Any
    labels: tuple[str, ...] | None = None


def resolve_data(name: str, options: Mapping[str, Any] | None = None) -> Loaders:
    """The loaders that a name on the command line stands for.

    Args:
        options: for ``digits``: ``batch_size``; for ``imagefolder`` and ``hf`` the fields of
            :class:`secateur.cli.imagefolder.ImageOptions` and :class:`secateur.cli.hf_datasets.HubOptions`; for a
            callable its keyword arguments.

    Raises:
        UnknownName: no such data set.
        MissingExtra: the package behind it is not installed.
        RecipeError: an unknown option, or a callable that fails or gives something else.
        DataError: a folder is missing, has no images, or an image cannot be read.
    """
    given = dict(options or {})
    scheme, colon, rest = name.partition(":")
    if name in _NAMED:
        return _NAMED[name](given)
    if scheme == "imagefolder" and rest:
        from secateur.cli.imagefolder import ImageOptions, image_folder

        return Loaders(*image_folder(rest, _options(ImageOptions, given, name)))
    if scheme == "hf" and rest:
        from secateur.cli.hf_datasets import HubOptions, hub_data

        return Loaders(*hub_data(rest, _options(HubOptions, given, name)))
    if colon and rest:
        return _own(name, given)
    raise UnknownName(
        f"data {name!r} have none of the forms {FORMS}{closest(name, ['digits', 'imagefolder', 'hf'])}"
    )


def digits(given: Mapping[str, Any] | None = None) -> Loaders:
    """scikit-learn's handwritten digits: 1,797 images of 8x8, enlarged to 24x24 and normalised.

    A fixed, stratified 70/30 split: 1,258 to train on and 539 to record with (one point is 5.4 images).
    """
    given = dict(given or {})
    batch = given.pop("batch_size", 32)
    _no_more(given, ["batch_size"], "digits")
    _check_batch_size(batch)
    if not has_package("sklearn"):
        raise MissingExtra("scikit-learn", "demo", "the data set 'digits'")
    from sklearn.datasets import load_digits
    from torch.utils.data import DataLoader, TensorDataset

    found = load_digits()
    targets = torch.tensor(found.target, dtype=torch.long)
    images = torch.tensor(found.images, dtype=torch.float32)[:, None] / 16
    images = torch.nn.functional.interpolate(images, size=(24, 24), mode="bilinear", align_corners=False)
    images = (images - 0.305) / 0.331
    generator = torch.Generator().manual_seed(0)
    train, held = [], []
    for digit in range(10):
        indices = (targets == digit).nonzero().flatten()
        indices = indices[torch.randperm(len(indices), generator=generator)]
        cut = round(0.3 * len(indices))
        held.append(indices[:cut])
        train.append(indices[cut:])
    parts = [TensorDataset(images[i], targets[i]) for i in (torch.cat(train), torch.cat(held))]
    return Loaders(
        DataLoader(parts[0], batch_size=batch, shuffle=True),
        DataLoader(parts[1], batch_size=max(batch, 60)),
        tuple(str(d) for d in range(10)),
    )


_NAMED: dict[str, Callable[[Mapping[str, Any]], Loaders]] = {"digits": digits}


def _own(name: str, given: dict[str, Any]) -> Loaders:
    found = called(import_object(name, "data"), name, "data", given)
    if not isinstance(found, (tuple, list)) or len(found) not in (2, 3):
        raise RecipeError(
            f"data {name!r} gave {type(found).__name__}; expected (train_loader, eval_loader) or (..., labels)"
        )
    labels = found[2] if len(found) == 3 else None
    return Loaders(found[0], found[1], tuple(map(str, labels)) if labels is not None else None)


def _options(kind: type[Any], given: dict[str, Any], name: str) -> Any:
    known = [f.name for f in fields(kind)]
    _no_more({k: v for k, v in given.items() if k not in known}, known, name)
    if "batch_size" in given:
        _check_batch_size(given["batch_size"])
    return kind(**given)


def _no_more(given: Mapping[str, Any], known: list[str], name: str) -> None:
    for option in given:
        raise RecipeError(
            f"data {name!r} have no option {option!r}; there are {', '.join(known)}{closest(option, known)}"
        )


def _check_batch_size(value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise RecipeError(f"batch_size must be a whole number above 0; got {value!r}")
