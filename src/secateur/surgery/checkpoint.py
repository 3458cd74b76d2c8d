"""Safetensors checkpoints, one tensor at a time: one file, or shards with an index as Hugging Face writes them.

The format is a length, a header in JSON and the tensors' bytes. Reading goes through the safetensors library, which
checks the header; every read opens the file anew, so that no page of another tensor stays mapped. Writing is done here,
since the library wants all tensors of a file at once.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from secateur.errors import CorruptFile, InputError

INDEX = ".safetensors.index.json"
TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "C64": torch.complex64,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip


@dataclass(frozen=True)
class Stored:
    """A tensor of a file as the header tells it: ``dtype`` in the format's words, ``itemsize`` in bytes."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    itemsize: int

    @property
    def torch_dtype(self) -> torch.dtype | None:
        """Its type; None for one that torch has not."""
        return TYPES.get(self.dtype)

    @property
    def bytes(self) -> int:
        """How many bytes it takes."""
        return prod(self.shape) * self.itemsize


@dataclass(frozen=True, eq=False)
class Checkpoint(Mapping[str, Tensor]):
    """The tensors of a checkpoint by name, each read when it is asked for.

    Args:
        tensors: in the order of the files.
        index: the file that says which shard holds what; None for a single file.
        metadata: of each file.
        extra: what the index says of the whole, besides ``weight_map``.
    """

    tensors: Mapping[str, Stored]
    index: Path | None
    metadata: Mapping[Path, Mapping[str, str]]
    extra: Mapping[str, Any]

    def __getitem__(self, name: str) -> Tensor:
        return self.read(name)

    def __contains__(self, name: object) -> bool:
        return name in self.tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    @property
    def files(self) -> list[Path]:
        """Its safetensors files, in order."""
        return list(self.metadata)

    @property
    def bytes(self) -> int:
        """Of all tensors."""
        return sum(stored.bytes for stored in self.tensors.values())

    def read(self, name: str, lengths: Sequence[int] | None = None) -> Tensor:
        """A tensor, or its leading part of these lengths, in memory of its own.

        Raises:
            CorruptFile: the file changed since it was opened.
        """
        from safetensors import SafetensorError, safe_open

        stored = self.tensors[name]
        try:
            with safe_open(str(stored.file), framework="pt") as file:
                if lengths is None or tuple(lengths) == stored.shape or not stored.shape:
                    return file.get_tensor(name).clone()
                part = file.get_slice(name)[tuple(slice(n) for n in lengths)]
                return part.clone()
        except (SafetensorError, OSError) as error:
            raise CorruptFile(f"cannot read '{name}' from {stored.file}: {error}") from error


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Reads the headers of a checkpoint: of a folder, of an index, or of one safetensors file.

    Raises:
        InputError: there is no checkpoint at ``path``, or several.
        CorruptFile: a file is missing, truncated or altered, or does not hold what the index says.
    """
    index, files = _located(Path(path))
    tensors: dict[str, Stored] = {}
    metadata: dict[Path, Mapping[str, str]] = {}
    for file in files:
        header = _header(file)
        metadata[file] = header.pop("__metadata__", {})
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            if name in tensors:
                raise CorruptFile(f"'{name}' stands in {tensors[name].file.name} and in {file.name}")
            shape, (start, end) = tuple(entry["shape"]), entry["data_offsets"]
            tensors[name] = Stored(file, entry["dtype"], shape, (end - start) // max(1, prod(shape)))
    extra: dict[str, Any] = {}
    if index is not None:
        extra = _index(index)
        for name, file_name in extra.pop("weight_map").items():
            if name not in tensors or tensors[name].file.name != file_name:
                raise CorruptFile(f"{index.name} says that {file_name} holds '{name}', and it does not")
    return Checkpoint(tensors, index, metadata, extra)


def write_file(
    path: Path,
    entries: Mapping[str, Stored],
    read: Callable[[str], Tensor],
    metadata: Mapping[str, str],
) -> None:
    """Writes a safetensors file, holding one tensor at a time.

    Args:
        path: of the file; appears in part, so it should be a temporary one.
        entries: what it will hold; ``file`` does not matter.
        read: gives each tensor, of the shape and type that its entry says.
        metadata: of the file.
    """
    # Large items first, as the library writes them: then every tensor is aligned.
    order = sorted(entries, key=lambda name: -entries[name].itemsize)
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in order:
        start, end = end, end + entries[name].bytes
        header[name] = {
            "dtype": entries[name].dtype, "shape": list(entries[name].shape), "data_offsets": [start, end],
        }  # fmt: skip
    words = json.dumps(header, separators=(",", ":")).encode()
    words += b" " * (-len(words) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(words)) + words)
        for name in order:
            tensor = read(name)
            if tuple(tensor.shape) != entries[name].shape or tensor.element_size() != entries[name].itemsize:
                raise AssertionError(f"'{name}' has another form than its header says")
            file.write(raw(tensor))
            del tensor
        file.flush()
        os.fsync(file.fileno())


def raw(tensor: Tensor) -> memoryview:
    """A tensor's bytes, as they stand in a file."""
    flat = tensor.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")


def _located(path: Path) -> tuple[Path | None, list[Path]]:
    """The index, if there is one, and the safetensors files."""
    if path.is_dir():
        indices, files = sorted(path.glob(f"*{INDEX}")), sorted(path.glob("*.safetensors"))
        usual = [p for p in (path / f"model{INDEX}", path / "model.safetensors") if p.is_file()]
        found = usual[:1] or indices or files
        if len(found) != 1:
            names = ", ".join(p.name for p in found[:3]) or "none"
            raise InputError(
                f"expected one index ({INDEX}) or one .safetensors file in {path}; found {names}; name the file itself"
            )
        path = found[0]
    if not path.is_file():
        raise InputError(
            f"there is no checkpoint at {path}; give its folder, its index or its .safetensors file"
        )
    if not path.name.endswith(INDEX):
        return None, [path]
    shards = sorted(set(_index(path)["weight_map"].values()))
    for shard in shards:
        if Path(shard).name != shard:
            raise CorruptFile(f"{path.name} names {shard!r}, which is not a file beside it")
        if not (path.parent / shard).is_file():
            raise CorruptFile(f"{path.name} names {shard}, which is not there: a shard is missing")
    return path, [path.parent / shard for shard in shards]


def _index(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
        assert isinstance(data, dict)
        assert all(isinstance(v, str) for v in data["weight_map"].values())
    except (OSError, ValueError, KeyError, AssertionError, AttributeError) as error:
        raise CorruptFile(f"{path} is no index of a checkpoint: it has no 'weight_map' of names") from error
    return data


def _header(path: Path) -> dict[str, Any]:
    """A file's header, after the library has found nothing wrong with it."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt"):
            pass
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            return dict(json.loads(file.read(length)))
    except (SafetensorError, OSError, ValueError, struct.error) as error:
        raise CorruptFile(f"{path} is truncated or was altered: {error}") from error


def by_file(tensors: Mapping[str, Stored]) -> Iterator[tuple[Path, dict[str, Stored]]]:
    """Tensors by the file that they stand in."""
    for file in dict.fromkeys(stored.file for stored in tensors.values()):
        yield file, {name: stored for name, stored in tensors.items() if stored.file == file}
