"""Weight files into a model: safetensors, or what torch's restricted reader takes.

A file that only an unpickler could read is refused, and a file that does not fit says which names are missing,
which are not expected and which have another shape.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from secateur.cli.objects import told
from secateur.errors import CorruptFile, UnknownName, UnsafeFile

WRAPPERS = ("state_dict", "model_state_dict", "model", "state_dict_ema")
SHOWN = 3


def load_weights_(model: nn.Module, path: Path) -> None:
    """Loads a weight file into a model, in place; nothing is changed unless everything fits.

    Raises:
        UnknownName: there is no such file.
        UnsafeFile: the file would have to be unpickled.
        CorruptFile: the file is truncated, or its names and shapes are not the model's.
    """
    state = read_weights(path)
    expected = model.state_dict()
    if (
        state
        and all(name.startswith("module.") for name in state)
        and not any(n.startswith("module.") for n in expected)
    ):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    # Files that were written without shared tensors leave out all but one name of each.
    tied = _tied(model)
    missing = [n for n in expected if n not in state and not any(other in state for other in tied.get(n, ()))]
    missing = [n for n in missing if not n.endswith("num_batches_tracked")]
    unexpected = [n for n in state if n not in expected]
    differing = [
        f"{n} is {tuple(state[n].shape)} instead of {tuple(expected[n].shape)}"
        for n in expected
        if n in state and state[n].shape != expected[n].shape
    ]
    complaints = []
    for what, names in (("missing", missing), ("not expected", unexpected), ("of another shape", differing)):
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            complaints.append(f"{len(names)} {what} ({', '.join(names[:SHOWN])}{more})")
    if complaints:
        raise CorruptFile(f"{path} does not fit the model: {'; '.join(complaints)}")
    model.load_state_dict(state, strict=False)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a weight file by name, on the processor.

    Raises:
        UnknownName, UnsafeFile, CorruptFile: as :func:`load_weights_`.
    """
    if not path.is_file():
        raise UnknownName(f"weights {str(path)!r}: there is no such file")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        try:
            return load_file(str(path))
        except Exception as error:
            raise CorruptFile(f"{path} is truncated or no safetensors file: {told(error)}") from error
    return _unwrapped(_restricted(path), path)


def _restricted(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # The reader raises the same error for damaged bytes; only a whole archive, or the older format's opening
        # bytes with a complaint about what it would have to build, is a file that is refused for what it holds.
        older = path.read_bytes()[:1] == b"\x80" and "Unsupported" in str(error)
        refused = type(error).__name__ == "UnpicklingError" and (zipfile.is_zipfile(path) or older)
        if refused:
            raise UnsafeFile(
                f"{path} holds more than tensors and would have to be unpickled, which is never done; save "
                "model.state_dict() with safetensors.torch.save_file"
            ) from error
        raise CorruptFile(f"{path} is truncated or no weight file") from error


def _unwrapped(value: Any, path: Path) -> dict[str, Tensor]:
    for key in WRAPPERS:
        if isinstance(value, Mapping) and isinstance(value.get(key), Mapping):
            value = value[key]
            break
    if not isinstance(value, Mapping) or not value or not all(isinstance(v, Tensor) for v in value.values()):
        raise CorruptFile(
            f"{path} holds no state dict (names to tensors, at the top or under {', '.join(WRAPPERS)}); "
            "save model.state_dict()"
        )
    return dict(value)


def _tied(model: nn.Module) -> dict[str, list[str]]:
    names: dict[int, list[str]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        names.setdefault(id(tensor), []).append(name)
    return {n: [o for o in group if o != n] for group in names.values() if len(group) > 1 for n in group}
