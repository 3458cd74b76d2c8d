"""What was asked of a run: complete, validated, hashed, and written out with every default.

A recipe is plain data in YAML. The Python interface builds the same record, so that a run folder always says
how to repeat it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from secateur.errors import RecipeError
from secateur.planning import Budget

CRITERIA = (
    "magnitude", "lamp", "batchnorm", "fpgm", "activation", "apoz", "taylor", "fisher", "obs", "random", "auto",
)  # fmt: skip
ALLOCATORS = ("global", "uniform")
MINIMISED = ("latency", "size", "params", "macs")
OPTIMISERS = ("adamw", "sgd")
FORMS = ("graph", "module", "auto")
DEPTHS = ("auto", "on", "off")


@dataclass(frozen=True)
class CriterionOptions:
    """How units are scored, see docs/how-to-choose.md.

    ``p`` is the norm of ``magnitude``, ``batches`` how much data ``taylor`` sees (in small batches of 16 samples; the
    others that look at data see as many samples). ``auto`` compares criteria at the cost that is asked, on held-out
    data, and takes the best.
    """

    name: str = "taylor"
    p: float = 2.0
    batches: int = 32


@dataclass(frozen=True)
class ScheduleOptions:
    """How the cut is spread: rounds that each remove less than ``most`` of what is left, or a fixed number."""

    most: float = 0.2
    rounds: int | None = None

    def count(self, share: float) -> int:
        """As many rounds to a share of the dense cost as keep each below ``most`` of what is left."""
        if self.rounds is not None:
            return self.rounds
        if share >= 1.0:
            return 1
        # Just above, so that a round of exactly the allowed share does not become two.
        return max(1, math.ceil(math.log(share) / math.log(1.0 - self.most) - 1e-9))


@dataclass(frozen=True)
class RecoveryOptions:
    """What gives back what a cut took: reconstruction first, then training.

    ``reconstruct`` is the number of training inputs that the weights are solved again on in closed form, after every
    cut (0: not at all). Training follows: epochs (or steps) after each round, ``final_epochs`` after the last.
    ``distil`` learns from the dense model as well, at ``temperature`` and with weight ``alpha``.
    """

    reconstruct: int = 1024
    optimizer: str = "adamw"
    lr: float = 1e-4
    weight_decay: float = 0.01
    epochs: int = 1
    final_epochs: int = 2
    steps: int | None = None
    distil: bool = False
    temperature: float = 4.0
    alpha: float = 0.7

    def epochs_over(self, rounds: int) -> int:
        """Epochs in all; 0 where ``steps`` say how long."""
        return 0 if self.steps is not None else self.epochs * (rounds - 1) + self.final_epochs

    def passes_over(self, rounds: int, share: float, batches: int) -> float:
        """Epochs in all, as ones of the dense model: each round trains what is left of ``share`` after it.

        Args:
            batches: of one epoch.
        """
        each = [float(self.epochs)] * (rounds - 1) + [float(self.final_epochs)]
        if self.steps is not None:
            each = [self.steps / batches] * rounds
        return sum(e * share ** (n / rounds) for n, e in enumerate(each, start=1))


@dataclass(frozen=True)
class MeasureOptions:
    """How long each comparison is measured, in seconds at most, and until which relative interval width."""

    seconds: float = 12.0
    width: float = 0.03
    rounds: bool = True


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run.

    Args:
        model, model_args, weights, pretrained, input: the model, by name, and its example input's shape.
        data, data_options: the data, by name.
        free_outputs: outputs of the model that may get narrower: true for all, or ``{name: [axes]}``.
        form: ``module`` for widths that the user's own class can compute, so that ``load(RUN, into=)`` gives it, or an
            error before any training; ``auto`` for these where they can be had; ``graph`` for any widths.
        task: ``classification`` or ``package.module:callable``.
        budget: what the result may cost.
        minimise: with a quality budget alone, what is made as small as that allows.
        plan: a plan's file, such as one of a sweep's: it is carried out at once, instead of looking for one.
        target: runtime and dtype.
        device: where latency is measured.
        threads: of the runtime; as many as there are cores by default.
        depth: whether blocks may go whole: ``auto`` where latency is predicted, ``on`` for any cost budget, ``off``.
        criterion, allocator, multiple, schedule, recovery, measure: how; see each.
        held_out: share of the training data that choices are made on.
        trained_baselines: also train the dense model and a randomly pruned one as long.
        seed: of everything random.
    """

    model: str | None = None
    model_args: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    pretrained: bool = False
    input: tuple[int, ...] | None = None
    data: str | None = None
    data_options: dict[str, Any] = field(default_factory=dict)
    free_outputs: bool | dict[str, Any] = False
    form: str = "graph"
    task: str = "classification"
    budget: Budget = field(default_factory=Budget)
    minimise: str | None = None
    plan: str | None = None
    target: str = "onnxruntime:auto"
    device: str = "local"
    threads: int | None = None
    depth: str = "auto"
    criterion: CriterionOptions = field(default_factory=CriterionOptions)
    allocator: str = "global"
    multiple: int = 8
    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)
    recovery: RecoveryOptions = field(default_factory=RecoveryOptions)
    measure: MeasureOptions = field(default_factory=MeasureOptions)
    held_out: float = 0.1
    trained_baselines: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        _one_of("criterion", self.criterion.name, CRITERIA)
        _one_of("allocator", self.allocator, ALLOCATORS)
        _one_of("optimizer", self.recovery.optimizer, OPTIMISERS)
        _one_of("form", self.form, FORMS)
        _one_of("depth", self.depth, DEPTHS)
        _one_of("device", self.device, ("local",))
        kinds = {a.kind for a in self.budget.amounts()}
        if "sparsity" in kinds:
            raise RecipeError("the budget sparsity= is not available in this version; use params= or macs=")
        quality = kinds <= {"drop", "class_drop"} and bool(kinds)
        if self.minimise is not None:
            _one_of("minimise", self.minimise, MINIMISED)
            if not quality:
                raise RecipeError(
                    f"minimise={self.minimise} goes with drop= or class_drop= alone; "
                    "with a cost budget as well, drop --minimise"
                )
        if quality and self.plan is not None:
            raise RecipeError(
                "plan= goes with the cost budget that it was made for, such as latency=0.5x; give that as well"
            )
        if self.plan is not None and self.criterion.name == "auto":
            raise RecipeError(
                "plan= settles what is cut, so criterion=auto has nothing to rank; name a criterion"
            )
        if quality and self.minimise is None:
            object.__setattr__(self, "minimise", "latency")
        if not kinds:
            raise RecipeError("no budget was given; say for example --budget latency=0.5x --budget drop=1.0")
        for name, value, low, high in (
            ("schedule.most", self.schedule.most, 0.0, 1.0),
            ("held_out", self.held_out, 0.0, 1.0),
        ):
            if not low < value < high:
                raise RecipeError(f"{name}={value} must lie between {low:g} and {high:g}")
        for name, count in (
            ("multiple", self.multiple),
            ("schedule.rounds", self.schedule.rounds),
            ("threads", self.threads),
        ):
            if count is not None and count < 1:
                raise RecipeError(f"{name}={count} must be at least 1")
        for name, count in (
            ("reconstruct", self.recovery.reconstruct),
            ("epochs", self.recovery.epochs),
            ("final_epochs", self.recovery.final_epochs),
        ):
            if count < 0:
                raise RecipeError(f"recovery.{name}={count} must not be negative")
        if not self.recovery.lr > 0:
            raise RecipeError(f"recovery.lr={self.recovery.lr} must be positive")

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain data, every default written out."""
        return _plain(self)

    @property
    def digest(self) -> str:
        """Hash of everything that decides."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:32]


def recipe_from(data: Mapping[str, Any], origin: str = "the recipe") -> Recipe:
    """A recipe from plain data.

    Raises:
        RecipeError: unknown keys, wrong types or contradictory values, named.
    """
    recipe: Recipe = _build(Recipe, data, origin)
    return recipe


def read_recipe(path: str | Path) -> dict[str, Any]:
    """The plain data of a YAML recipe.

    Raises:
        RecipeError: the file cannot be read or is no mapping.
    """
    import yaml

    try:
        data = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise RecipeError(f"cannot read the recipe {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise RecipeError(f"{path} must hold a mapping of names to values, such as 'model: timm:resnet18'")
    return data


def _build(kind: Any, data: Any, origin: str) -> Any:
    if not isinstance(data, Mapping):
        raise RecipeError(f"{origin} must be a mapping; got {type(data).__name__}")
    hints = typing.get_type_hints(kind)
    known = {f.name for f in fields(kind)}
    for key in data:
        if key not in known:
            raise RecipeError(f"{origin} has no option '{key}'; there are {', '.join(sorted(known))}")
    return kind(**{key: _value(hints[key], value, f"{origin}: {key}") for key, value in data.items()})


def _value(hint: Any, value: Any, origin: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else _build(hint, value, origin)  # type: ignore[arg-type]
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for option in options:
        if option is type(None) and value is None:
            return None
        if option is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if option is float and isinstance(value, str) and str not in options and _is_number(value):
            return float(value)  # YAML 1.1 takes 1e-4, without a point, for text
        if option is int and isinstance(value, int) and not isinstance(value, bool):
            return value
        if option in (str, bool) and isinstance(value, option):
            return value
        if typing.get_origin(option) is dict and isinstance(value, dict):
            return value
        if (
            typing.get_origin(option) is tuple
            and isinstance(value, (list, tuple))
            and all(isinstance(v, int) for v in value)
        ):
            return tuple(value)
    names = " or ".join("nothing" if o is type(None) else getattr(o, "__name__", str(o)) for o in options)
    raise RecipeError(f"{origin} must be {names}; got {value!r}")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    return list(value) if isinstance(value, tuple) else value


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise RecipeError(f"{name}={value} is not one of {', '.join(known)}")
