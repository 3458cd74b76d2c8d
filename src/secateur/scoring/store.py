"""Scores in a file: scoring runs the model, and what it found serves every later plan."""

from __future__ import annotations

from pathlib import Path

from secateur.coupling import Groups
from secateur.errors import CorruptFile
from secateur.files import whole_file
from secateur.scoring.record import Scores


def save_scores(scores: Scores, path: Path) -> None:
    """Writes scores as safetensors, whole or not at all.

    Raises:
        RunFolderError: the file cannot be written.
    """
    from safetensors.numpy import save_file

    arrays = {f"values {name}": v for name, v in scores.values.items()}
    arrays |= {f"cells {name}": c for name, c in scores.cells.items()}
    about = {"criterion": scores.criterion, "comparable": "yes" if scores.comparable else "no"}
    with whole_file(path) as temporary:
        save_file({name: array.copy() for name, array in arrays.items()}, str(temporary), about)


def load_scores(path: Path, groups: Groups) -> Scores:
    """The inverse of :func:`save_scores`.

    Args:
        groups: those that were scored.

    Raises:
        CorruptFile: the file is damaged, or holds scores of other groups.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "numpy") as file:
            about, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
        values = {g.name: arrays.pop(f"values {g.name}") for g in groups}
        cells = {name.removeprefix("cells "): array for name, array in arrays.items()}
        found = Scores(groups, values, about["criterion"], about["comparable"] == "yes", cells)
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise CorruptFile(
            f"{path} does not hold scores of this model ({error}); delete it to score anew"
        ) from error
    if any(found.values[g.name].shape != (g.units,) for g in groups) or not set(cells) <= set(values):
        raise CorruptFile(f"{path} holds scores of other groups; delete it to score anew")
    return found
