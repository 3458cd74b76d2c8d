"""``.pt2`` programs: written without a pickled byte, and read without unpickling one.

What is read goes through :mod:`secateur.deploy.pt2_archive` first; torch is then given a copy that holds only what was
checked, so that none of the paths on which ``torch.export.load`` runs code from the file is reached.
"""

from __future__ import annotations

import copy
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from secateur.deploy.program import exported_program, quiet
from secateur.deploy.pt2_archive import checked_records
from secateur.errors import CorruptFile, NotExportable
from secateur.files import whole_file
from secateur.task import Inputs


@dataclass(frozen=True)
class LoadedProgram:
    """What a ``.pt2`` file holds: the program, and the inputs it was exported with if it carries any."""

    program: ExportedProgram
    example_inputs: Inputs | None


def export_pt2(model: nn.Module, example_inputs: Inputs, path: str | Path) -> Path:
    """Writes ``model`` as a ``.pt2`` program, batch axis free where the model allows it, nothing pickled in it.

    Raises:
        NotExportable: ``torch.export`` refuses the model, or torch cannot save it.
        UnsafeFile: the model holds tensor subclasses or objects, which torch would pickle.
        RunFolderError: the file cannot be written.
    """
    destination = Path(path)
    program = copy.copy(exported_program(model, example_inputs))
    program._example_inputs = None  # torch.export.save would pickle them
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it tells where the file was made, and nothing else
    with whole_file(destination) as temporary:
        try:
            with quiet():
                torch.export.save(program, str(temporary))
        except OSError:
            raise
        except Exception as error:
            line = (str(error).strip().splitlines() or ["no message"])[0]
            raise NotExportable(f"torch cannot save the program: {type(error).__name__}: {line}") from error
        check_pt2(temporary)
    return destination


def check_pt2(path: str | Path) -> None:
    """Reads the archive as data, without unpickling, and refuses what could run code when it is loaded.

    Raises:
        UnsafeFile: it carries pickled weights, constants or objects, compiled code, example inputs that are not plain
            tensors, or expressions and operators that are more than that.
        CorruptFile: it is no whole ``.pt2`` archive.
    """
    checked_records(Path(path))


def load_pt2(path: str | Path) -> LoadedProgram:
    """Loads a ``.pt2`` program that :func:`check_pt2` accepts.

    Raises:
        UnsafeFile, CorruptFile: see :func:`check_pt2`.
    """
    records, samples = checked_records(Path(path))
    clean = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(clean)
    writer.set_min_version(6)
    for name, data in records.items():
        writer.write_record(name, data, len(data))
    writer.write_end_of_file()
    clean.seek(0)
    try:
        with quiet():
            program = torch.export.load(clean)
    except Exception as error:
        line = (str(error).strip().splitlines() or ["no message"])[0]
        raise CorruptFile(f"torch cannot read {path}: {type(error).__name__}: {line}") from error
    return LoadedProgram(program, _as_inputs(samples))


def _as_inputs(samples: Any) -> Inputs | None:
    """``(args, kwargs)`` as one of the three forms of inputs."""
    if not (isinstance(samples, tuple) and len(samples) == 2):
        return None
    args, kwargs = samples
    if kwargs and not args:
        return dict(kwargs)
    if args and not kwargs:
        return args[0] if len(args) == 1 and isinstance(args[0], torch.Tensor) else tuple(args)
    return None
