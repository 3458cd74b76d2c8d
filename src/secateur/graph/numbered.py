"""Numbers that remember, in place of the integers that a model's modules and the objects they hold have."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from secateur.graph.numbers import Attribute, TracedFloat, TracedInt

_PLAIN_MODULE = frozenset(nn.Module().__dict__)
_DEPTH = 3  # how far into containers and configuration objects numbers are looked for


@contextlib.contextmanager
def numbered(model: nn.Module) -> Iterator[dict[Attribute, int]]:
    """Replaces the integer attributes of all modules, and of the objects they hold, for a while."""
    found: dict[Attribute, int] = {}
    restored: list[tuple[dict[str, Any], dict[str, Any]]] = []
    seen: set[int] = set()

    def number(value: Any, origin: Attribute, depth: int) -> Any:
        if type(value) is int:
            found[origin] = value
            return TracedInt(value, origin)
        if type(value) is float:
            return TracedFloat(value, origin)
        if depth == _DEPTH:
            return value
        inner = [Attribute(origin.module, (*origin.keys, i)) for i in range(_length(value))]
        if isinstance(value, tuple) and inner:
            items = [number(v, o, depth + 1) for v, o in zip(value, inner, strict=True)]
            return rebuilt(value, items)
        if type(value) is list:
            return [number(v, o, depth + 1) for v, o in zip(value, inner, strict=True)]
        if type(value) is dict:
            return {
                k: number(v, Attribute(origin.module, (*origin.keys, k)), depth + 1)
                if isinstance(k, (str, int))
                else v
                for k, v in value.items()
            }
        if is_record(value) and id(value) not in seen:
            seen.add(id(value))
            visit(value.__dict__, origin.module, origin.keys, depth + 1)
        return value

    def visit(held: dict[str, Any], module: str, keys: tuple[str | int, ...], depth: int) -> None:
        restored.append((held, dict(held)))
        for key, value in list(held.items()):
            if key not in _PLAIN_MODULE:
                held[key] = number(value, Attribute(module, (*keys, key)), depth)

    for path, module in model.named_modules():
        visit(module.__dict__, path, (), 0)
    try:
        yield found
    finally:
        for held, before in restored:
            held.clear()
            held.update(before)


def is_record(value: Any) -> bool:
    """Whether an attribute is an object of the user's that may hold numbers: a configuration, say."""
    kind = type(value)
    return (
        hasattr(value, "__dict__")
        and not isinstance(
            value, (nn.Module, Tensor, type, types.FunctionType, types.MethodType, types.ModuleType)
        )
        and not kind.__module__.startswith(("torch", "builtins", "functools", "collections", "typing"))
    )


def rebuilt(value: tuple[Any, ...], items: list[Any]) -> Any:
    """A tuple of the same kind with other items."""
    kind = type(value)
    return kind(*items) if hasattr(value, "_fields") else kind(items)


def _length(value: Any) -> int:
    return len(value) if isinstance(value, (tuple, list)) else 0
