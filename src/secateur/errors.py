"""The tree of errors. Every one of them is one clear line that says what to do.

SecateurError                 anything Secateur raises on purpose
├── RequestError              the request is wrong: fix the input               (exit 2)
│   ├── RecipeError           unknown keys, contradictory budgets, bad values
│   ├── NotExportable         torch.export refuses the model
│   ├── InputError            example inputs that the model does not take
│   ├── UnknownName           a layer, parameter, model or data set not found
│   ├── DataError             missing or empty data, labels out of range
│   ├── TaskError             the loss or the metric fails, or is not finite
│   ├── NotFinite             NaN or infinity in weights, scores or loss
│   ├── PlanError             a plan that is truncated, tampered or for another model
│   ├── UnsafeFile            a file that would have to be unpickled
│   ├── CorruptFile           a truncated or altered weight or program file
│   ├── RunFolderError        an output folder that cannot be used
│   ├── FormError             the result cannot be had in the user's own class
│   └── MissingExtra          an optional dependency is not installed
├── Infeasible                no plan can meet the budget                       (exit 4)
├── NotVerified               a cut differs from the masked original            (exit 1)
└── ParityError               an artifact differs from the model it came from   (exit 1)
"""

from __future__ import annotations


class SecateurError(Exception):
    """Base of every error that Secateur raises on purpose.

    ``exit_status`` is what the command line returns for it.
    """

    exit_status = 1


class RequestError(SecateurError):
    """The request is wrong; the message says what was given, what was expected and what to do."""

    exit_status = 2


class RecipeError(RequestError):
    """A recipe or an option that cannot be honoured."""


class NotExportable(RequestError):
    """``torch.export`` refuses the model; the message quotes it and the line of the user's code."""


class InputError(RequestError):
    """Example inputs that the model does not take."""


class UnknownName(RequestError):
    """A layer, parameter, model, data set or option value that does not exist."""


class DataError(RequestError):
    """Missing, empty or inconsistent data."""


class TaskError(RequestError):
    """The loss or metric of the task raised, or returned something that is not a finite number."""


class NotFinite(RequestError):
    """NaN or infinity where numbers were expected."""


class PlanError(RequestError):
    """A plan that is truncated, altered, or belongs to another model."""


class UnsafeFile(RequestError):
    """A file that could only be read by unpickling it."""


class CorruptFile(RequestError):
    """A weight, program or record file that is truncated or was altered."""


class RunFolderError(RequestError):
    """An output folder that is read-only, full, or belongs to another recipe."""


class FormError(RequestError):
    """The result cannot be had in the user's own class; ``pruned`` holds it in graph form."""

    def __init__(self, message: str, pruned: object = None) -> None:
        super().__init__(message)
        self.pruned = pruned


class MissingExtra(RequestError):
    """An optional dependency is not installed; the message holds the command that installs it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs {package}, which is not installed: pip install 'secateur[{extra}]'"
        )
        self.package, self.extra = package, extra


class Infeasible(SecateurError):
    """No plan can meet the budget. ``nearest`` is the smallest value that can be had."""

    exit_status = 4

    def __init__(self, message: str, nearest: float | None = None) -> None:
        super().__init__(message)
        self.nearest = nearest


class NotVerified(SecateurError):
    """A cut differs from the masked original. ``node`` names the first node that differs."""

    def __init__(self, message: str, node: str | None = None) -> None:
        super().__init__(message)
        self.node = node


class ParityError(SecateurError):
    """An exported artifact differs from the model it came from."""
