"""What a sweep was asked: budgets of one kind, named or spread, and how many of the plans are measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from secateur.errors import RecipeError
from secateur.planning import Amount, parse_amount
from secateur.recipe import Recipe

KINDS = ("latency", "size", "params", "macs")
BUDGETS = ("0.9x", "0.7x", "0.5x", "0.35x")
WIDEST, NARROWEST = 0.9, 0.1  # shares of the dense cost that points are spread between
MOST_POINTS = 100


@dataclass(frozen=True)
class Asked:
    """The budgets of a sweep.

    Args:
        kind: ``latency``, ``size``, ``params`` or ``macs``.
        budgets: amounts of it, such as ``0.5x`` or ``12ms``; or how many are spread, with equal ratios between them,
            from 0.9x to the smallest that can be had (0.1x at the least).
        measure: how many of the plans are exported and measured, spread over the family; None measures all.

    Raises:
        RecipeError: an amount cannot be read, or a number makes no sense.
    """

    kind: str = "latency"
    budgets: tuple[str, ...] | int = BUDGETS
    measure: int | None = 3

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise RecipeError(f"kind={self.kind} is not one of {', '.join(KINDS)}")
        if isinstance(self.budgets, int):
            if not 2 <= self.budgets <= MOST_POINTS:
                raise RecipeError(
                    f"the number of budgets, {self.budgets}, must lie between 2 and {MOST_POINTS}"
                )
        elif not self.budgets:
            raise RecipeError(f"no budget was given; write for example {', '.join(BUDGETS)}")
        if self.measure is not None and self.measure < 0:
            raise RecipeError(f"measure={self.measure} must not be negative; 0 measures none")
        self.amounts(self.named)

    @property
    def named(self) -> tuple[str, ...]:
        """The budgets as they were named; the usual ones where a number was given."""
        return BUDGETS if isinstance(self.budgets, int) else self.budgets

    def amounts(self, budgets: Sequence[str]) -> list[Amount]:
        """The budgets read, each amount once."""
        found: dict[tuple[float, bool], Amount] = {}
        for text in budgets:
            amount = parse_amount(self.kind, text)
            found.setdefault((amount.value, amount.relative), amount)
        return list(found.values())

    def spread(self, least: float) -> tuple[str, ...]:
        """Budgets between 0.9x and ``least``, the smallest share that can be had, with equal ratios between them."""
        assert isinstance(self.budgets, int)
        low = min(max(1.02 * least, NARROWEST), WIDEST)
        return tuple(dict.fromkeys(f"{s:.2g}x" for s in np.geomspace(WIDEST, low, self.budgets)))


@dataclass(frozen=True)
class Request:
    """A sweep as its folder records it: other budgets may be added to one that was begun, nothing else may change."""

    recipe: Recipe
    asked: Asked

    def to_dict(self) -> dict[str, Any]:
        """Every option, and the budgets that were asked last."""
        budgets = self.asked.budgets
        return {
            "kind": self.asked.kind,
            "budgets": budgets if isinstance(budgets, int) else list(budgets),
            "measure": "all" if self.asked.measure is None else self.asked.measure,
            "recipe": self._options,
        }

    @property
    def digest(self) -> str:
        """Hash of the kind and of every option that is no budget."""
        plain = json.dumps([self.asked.kind, self._options], sort_keys=True)
        return hashlib.sha256(plain.encode()).hexdigest()[:32]

    @property
    def _options(self) -> dict[str, Any]:
        return {name: value for name, value in self.recipe.to_dict().items() if name != "budget"}
