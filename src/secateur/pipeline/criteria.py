"""Criteria by the names that recipes call them, and which of them ``criterion: auto`` ranks.

To add one: its name in :data:`secateur.recipe.CRITERIA`, how it is made in ``MAKERS``, and a row of ``RANKED`` if it is
to be ranked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from secateur.recipe import CriterionOptions
from secateur.scoring import (
    FPGM,
    LAMP,
    OBS,
    APoZ,
    BatchNormScale,
    Criterion,
    Fisher,
    Magnitude,
    MeanActivation,
    Random,
    Taylor,
)

SIZE = 16  # samples of Taylor's small batches

MAKERS: Mapping[str, Callable[[CriterionOptions, int], Criterion]] = {
    "magnitude": lambda options, seed: Magnitude(p=options.p),
    "lamp": lambda options, seed: LAMP(),
    "batchnorm": lambda options, seed: BatchNormScale(),
    "fpgm": lambda options, seed: FPGM(),
    "activation": lambda options, seed: MeanActivation(samples=SIZE * options.batches),
    "apoz": lambda options, seed: APoZ(samples=SIZE * options.batches),
    "fisher": lambda options, seed: Fisher(batches=SIZE * options.batches, seed=seed),
    "obs": lambda options, seed: OBS(samples=SIZE * options.batches, seed=seed),
    "taylor": lambda options, seed: Taylor(batches=options.batches),
    "random": lambda options, seed: Random(seed=seed),
}

# The simplest first: where two cannot be told apart, the first is used. ``random`` is a control, and never used.
RANKED: tuple[dict[str, object], ...] = (
    {"name": "magnitude", "p": 2.0},
    {"name": "magnitude", "p": 1.0},
    {"name": "taylor"},
    {"name": "obs"},
    {"name": "random"},
)
CONTROL = "random"


def made(options: CriterionOptions, seed: int) -> Criterion:
    """The criterion of a recipe's options."""
    return MAKERS[options.name](options, seed)
