"""Image folders: ``PATH/train/<class>/*`` and ``PATH/test`` (or ``val``, ``validation``)``/<class>/*``.

Plain Pillow and torch. Decoded images are kept as uint8 where the whole set is small, and cropping, flipping and
normalising are done on whole batches of tensors, so that an epoch of small images costs the network's time and not
the decoder's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from secateur.cli.objects import has_package
from secateur.errors import DataError, MissingExtra, RecipeError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp", ".gif"})
EVALUATION = ("test", "val", "validation")


@dataclass(frozen=True)
class ImageOptions:
    """How images become batches ``[B, channels, H, W]``.

    Args:
        size: height and width, or one number for both; ``None``: as the first image is. Larger or smaller images
            are resized (shorter side, bicubic) and cropped at the centre.
        mean, std: per channel, on a scale of 0 to 1.
        batch_size: samples per batch.
        augment: random crops after padding by an eighth, and horizontal flips, on the training part.
        channels: 3, or 1 for grey.
        cache: bytes of decoded images (per part) that are kept in memory.
        workers: processes that decode, where images are not kept.
    """

    size: int | Sequence[int] | None = None
    mean: Sequence[float] = (0.485, 0.456, 0.406)
    std: Sequence[float] = (0.229, 0.224, 0.225)
    batch_size: int = 128
    augment: bool = True
    channels: int = 3
    cache: int = 2_000_000_000
    workers: int = 0

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise RecipeError(f"channels must be 1 or 3; got {self.channels!r}")
        if self.size is not None and (len(self.pair) != 2 or min(self.pair) < 1):
            raise RecipeError(
                f"size must be a number of pixels or two of them (height, width); got {self.size!r}"
            )
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.channels):
                raise RecipeError(f"{name} must have {self.channels} numbers; got {list(values)}")
        if min(self.std) <= 0:
            raise RecipeError(f"std must be above 0; got {list(self.std)}")

    @property
    def pair(self) -> tuple[int, ...]:
        """Height and width."""
        if self.size is None:
            return ()
        return (self.size, self.size) if isinstance(self.size, int) else tuple(self.size)


def image_folder(path: str | Path, options: ImageOptions | None = None) -> tuple[Any, Any, tuple[str, ...]]:
    """The training loader, the evaluation loader and the sorted names of the classes.

    Raises:
        DataError: a folder is missing, holds no images, the parts have different classes, or an image cannot be
            read.
        MissingExtra: Pillow is not installed.
    """
    options = options or ImageOptions()
    if not has_package("PIL"):
        raise MissingExtra("Pillow", "images", f"data 'imagefolder:{path}'")
    root = Path(path)
    if not root.is_dir():
        raise DataError(f"data 'imagefolder:{path}': there is no such folder")
    train_root = root / "train"
    test_root = next((root / n for n in EVALUATION if (root / n).is_dir()), None)
    if not train_root.is_dir() or test_root is None:
        raise DataError(
            f"data 'imagefolder:{path}': expected train/<class>/* and one of {', '.join(EVALUATION)}/<class>/*; "
            f"found {sorted(p.name for p in root.iterdir())[:5]}"
        )
    classes = _classes(train_root)
    if strange := sorted(set(_classes(test_root)) - set(classes)):
        raise DataError(f"{test_root} has classes that {train_root} has not: {', '.join(strange[:5])}")
    size = options.pair or _first_size(_files(train_root, classes)[0][0])
    loaders = []
    for folder, training in ((train_root, True), (test_root, False)):
        dataset = ImageFolder(_files(folder, classes), size, options)
        finish = Finish(options, options.augment and training)
        workers = 0 if dataset.cached else options.workers
        loaders.append(
            DataLoader(dataset, options.batch_size, shuffle=training, collate_fn=finish, num_workers=workers)
        )
    return loaders[0], loaders[1], classes


class ImageFolder(Dataset[Any]):
    """Images as uint8 tensors ``[C, H, W]`` and class indices; whole batches at a time where asked for."""

    def __init__(self, files: list[tuple[Path, int]], size: tuple[int, ...], options: ImageOptions) -> None:
        self.files, self.size, self.channels = files, size, options.channels
        self.targets = torch.tensor([target for _, target in files])
        needed = len(files) * options.channels * size[0] * size[1]
        self.cached = needed <= options.cache
        self._images: Tensor | None = None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self._pixels([index])[0], self.targets[index]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        return self._pixels(indices), self.targets[indices]

    def _pixels(self, indices: list[int]) -> Tensor:
        if self.cached and self._images is None:
            self._images = self._decoded(range(len(self.files)))
        if self._images is not None:
            return self._images[indices]
        return self._decoded(indices)

    def _decoded(self, indices: Sequence[int]) -> Tensor:
        images = torch.empty((len(indices), self.channels, *self.size), dtype=torch.uint8)
        for row, index in enumerate(indices):
            images[row] = decoded(self.files[index][0], self.size, self.channels)
        return images


class Finish:
    """Collation: a batch of uint8 images to normalised floats, augmented in training."""

    def __init__(self, options: ImageOptions, augment: bool) -> None:
        self.options, self.augment = options, augment
        self.mean = torch.tensor(list(options.mean)).view(1, -1, 1, 1)
        self.std = torch.tensor(list(options.std)).view(1, -1, 1, 1)

    def plain(self) -> Finish:
        """The same without augmentation; held-out samples are finished by it."""
        return Finish(self.options, False)

    def __call__(self, batch: tuple[Tensor, Tensor] | list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        if isinstance(batch, list):  # single samples, from a wrapper that does not pass batches on
            batch = (torch.stack([image for image, _ in batch]), torch.stack([target for _, target in batch]))
        images, targets = batch
        if self.augment:
            images = flipped(cropped(images))
        return (images.float() / 255 - self.mean) / self.std, targets


def cropped(images: Tensor) -> Tensor:
    """Each image moved by its own random offset, of at most an eighth of its size; zeros come in. ``[B, C, H, W]``."""
    count, _, height, width = images.shape
    pad = max(1, min(height, width) // 8)
    wide = torch.nn.functional.pad(images, (pad, pad, pad, pad))
    rows, columns = torch.randint(0, 2 * pad + 1, (2, count)).tolist()
    # Slices are views: several times faster than one indexed gather over the whole batch.
    parts = [
        wide[i, :, r : r + height, c : c + width] for i, (r, c) in enumerate(zip(rows, columns, strict=True))
    ]
    return torch.stack(parts)


def flipped(images: Tensor) -> Tensor:
    """Each image mirrored left to right with probability one half."""
    chosen = torch.rand(len(images)) < 0.5
    result = images.clone()
    result[chosen] = images[chosen].flip(3)
    return result


def decoded(path: Path, size: tuple[int, ...], channels: int) -> Tensor:
    """One file as uint8 ``[C, H, W]``: shorter side resized, centre cropped.

    Raises:
        DataError: the file is no image that Pillow can read.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB" if channels == 3 else "L")
    except Exception as error:
        raise DataError(
            f"the image {path} cannot be read ({type(error).__name__}); replace or remove it"
        ) from error
    if image.size != (size[1], size[0]):
        image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BICUBIC)
    flat = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return flat.view(size[0], size[1], channels).permute(2, 0, 1)


def _classes(root: Path) -> tuple[str, ...]:
    classes = tuple(sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")))
    if not classes:
        raise DataError(f"{root} has no folders; one per class is expected, with the images in it")
    return classes


def _files(root: Path, classes: Sequence[str]) -> list[tuple[Path, int]]:
    found = []
    for index, name in enumerate(classes):
        folder = root / name
        images = (
            sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES) if folder.is_dir() else []
        )
        found += [(p, index) for p in images]
    if not found:
        raise DataError(f"{root} holds no images (of the kinds {', '.join(sorted(SUFFIXES))})")
    return found


def _first_size(path: Path) -> tuple[int, ...]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return (image.height, image.width)
    except Exception as error:
        raise DataError(
            f"the image {path} cannot be read ({type(error).__name__}); replace or remove it"
        ) from error
