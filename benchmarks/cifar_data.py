"""The images and weights of the CIFAR benchmark: unpacked once, read into memory, in a seeded order."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from examples.cifar_resnet import resnet20, resnet56
from secateur.cli.imagefolder import Finish, ImageFolder, ImageOptions, image_folder

ARCHIVE = "cifar10-jpeg75.tar.xz"
FOLDER = "cifar10-jpeg75"
NETWORKS = {
    "resnet20": (resnet20, "resnet20-cifar10.safetensors"),
    "resnet20-jpeg75": (resnet20, "resnet20-cifar10-jpeg75.safetensors"),
    "resnet56": (resnet56, "resnet56-cifar10.safetensors"),
}
Batches = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Images:
    """Normalised batches: ``test`` to judge on, ``train`` to calibrate and recalibrate on (no augmentation)."""

    train: Batches
    test: Batches

    @property
    def tested(self) -> int:
        """How many images accuracy is measured on."""
        return sum(len(target) for _, target in self.test)


def unpacked(data: Path, cache: Path) -> Path:
    """The image folder, unpacked into ``cache`` if it is not there; a broken-off unpacking leaves nothing."""
    folder = cache / FOLDER
    if folder.is_dir():
        return folder
    archive = data / ARCHIVE
    if not archive.is_file():
        raise SystemExit(f"{archive} is missing; --data must name the folder that holds it")
    cache.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=cache, prefix=".unpacking-"))
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(staging, filter="data")
        (staging / FOLDER).rename(folder)
    finally:
        shutil.rmtree(staging)
    return folder


def read_images(folder: Path, train: int, test: int, seed: int, batch: int = 256) -> Images:
    """A seeded choice of training and test images; the same for everything that is compared."""
    options = ImageOptions(size=32)
    loaders = image_folder(folder, options)[:2]
    finish = Finish(options, augment=False)
    parts = []
    for loader, count in zip(loaders, (train, test), strict=True):
        whole = loader.dataset
        order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(seed))[:count].tolist()
        # Only the chosen files are decoded.
        chosen = ImageFolder([whole.files[i] for i in order], (32, 32), options)
        pixels, targets = finish(chosen.__getitems__(list(range(len(order)))))
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        parts.append(list(zip(pixels.split(batch), targets.split(batch), strict=True)))
    return Images(*parts)


def network(name: str, data: Path) -> nn.Module:
    """One of :data:`NETWORKS` with its weights, in evaluation mode."""
    build, weights = NETWORKS[name]
    model = build()
    missing, unexpected = model.load_state_dict(load_file(data / weights), strict=False)
    if unexpected or any(not m.endswith("num_batches_tracked") for m in missing):
        raise SystemExit(f"{weights} does not fit {name}: missing {missing}, not expected {unexpected}")
    return model.eval()
