"""Layers removed whole, in terms of a configuration: lists get shorter, and so does the number that counts them.

Which number of a configuration counts the elements of a list is learnt by building the class with it. What the class
numbers while it is built (the place of a layer in a cache, say) is taken over from the class built anew.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from secateur.graph import is_record
from secateur.surgery.owner.config import made
from secateur.surgery.owner.hollow import Hollow


def shortened(model: nn.Module) -> tuple[nn.Module | None, str]:
    """A class without the stand-ins in its lists of layers, its configuration to match.

    Args:
        model: a copy of the user's, with stand-ins for the modules that were removed; may be written to.

    Returns:
        The class, or None and why the configuration cannot say what was removed.
    """
    lists = {
        path: [i for i, layer in enumerate(module) if not isinstance(layer, Hollow)]
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and any(isinstance(layer, Hollow) for layer in module)
    }
    for path, left in lists.items():
        whole = len(model.get_submodule(path))  # type: ignore[arg-type]
        config = next(
            (c for c in _shorter(model.config, whole, left) if _fits(model, c, path, len(left))), None
        )
        if config is None:
            return None, f"no number of the configuration makes '{path}' shorter than {whole}"
        _take_over(model.config, config)
        parent, _, name = path.rpartition(".")
        layers = model.get_submodule(path)
        kept = nn.ModuleList(layers[i] for i in left)  # type: ignore[index]
        setattr(model.get_submodule(parent), name, kept)
    rest = next((path for path, module in model.named_modules() if isinstance(module, Hollow)), None)
    if rest is not None:
        return None, f"'{rest}' is no layer of a list, and no configuration says that it is not there"
    again = made(type(model), model.config)
    if again is not None:
        _renumber(model, again)
    return model, ""


def renamed(model: nn.Module) -> Mapping[str, str]:
    """For a class with stand-ins, what its parameters are called once these are gone from the lists."""
    found = {name: name for name, _ in model.named_parameters(remove_duplicate=False)}
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList):
            places = [i for i, layer in enumerate(module) if not isinstance(layer, Hollow)]
            for new, old in enumerate(places):
                before, after = f"{path}.{old}.", f"{path}.{new}."
                for name in list(found):
                    if name.startswith(before):
                        found[name] = after + found[name].removeprefix(before)
    return found


def _shorter(config: Any, whole: int, left: list[int]) -> Iterator[Any]:
    """Configurations with one of the numbers that could count a list, and what has an entry for each of its layers."""
    for path, _ in [place for place in _entries(config, ()) if place[1] == whole]:
        changed = copy.deepcopy(config)
        _holder(changed, path).__dict__[path[-1]] = len(left)
        for other, value in list(_entries(changed, ())):
            if isinstance(value, (list, tuple)) and len(value) == whole:
                _holder(changed, other).__dict__[other[-1]] = type(value)(value[i] for i in left)
        yield changed


def _entries(config: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in vars(config).items():
        if is_record(value) and len(path) < 3:
            yield from _entries(value, (*path, name))
        elif type(value) is int or isinstance(value, (list, tuple)):
            yield (*path, name), value


def _holder(config: Any, path: tuple[str, ...]) -> Any:
    for name in path[:-1]:
        config = vars(config)[name]
    return config


def _take_over(config: Any, other: Any) -> None:
    for path, value in list(_entries(other, ())):
        vars(_holder(config, path))[path[-1]] = value


def _fits(model: nn.Module, config: Any, path: str, count: int) -> bool:
    """Whether the class built from a configuration has a list of so many, and its other lists as they are."""
    again = made(type(model), config)
    if again is None:
        return False
    theirs = {p: len(m) for p, m in again.named_modules() if isinstance(m, nn.ModuleList)}
    ours = {p: len(m) for p, m in model.named_modules() if isinstance(m, nn.ModuleList)}
    outer = {p: n for p, n in ours.items() if not p.startswith(path + ".")}
    return all(theirs.get(p) == (count if p == path else n) for p, n in outer.items())


def _renumber(model: nn.Module, again: nn.Module) -> None:
    """Takes over whole numbers that differ in a class built from the same configuration."""
    theirs = dict(again.named_modules())
    for path, module in model.named_modules():
        for name, value in list(module.__dict__.items()):
            other = theirs[path].__dict__.get(name) if path in theirs else None
            if type(value) is int and type(other) is int and value != other:
                module.__dict__[name] = other
