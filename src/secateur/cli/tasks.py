"""Names of tasks to tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from secateur.cli.objects import called, closest, import_object
from secateur.errors import RecipeError, UnknownName
from secateur.task import Task, classification


def resolve_task(name: str, labels: Sequence[str] | None = None) -> Task:
    """The task that a name stands for.

    Args:
        name: ``classification``, or ``package.module:callable`` (called without arguments) or
            ``package.module:task``.
        labels: names of the classes that the data know; used where the task has none of its own.

    Raises:
        UnknownName: no such task.
        RecipeError: the callable fails, or gives no ``Task``.
    """
    if name == "classification":
        return classification(labels)
    if ":" not in name:
        raise UnknownName(
            f"task {name!r} is neither 'classification' nor package.module:callable{closest(name, ['classification'])}"
        )
    found = import_object(name, "task")
    task = found if isinstance(found, Task) else called(found, name, "task")
    if not isinstance(task, Task):
        raise RecipeError(f"task {name!r} gave {type(task).__name__}; a secateur.Task is expected")
    return task if task.labels is not None or labels is None else _with_labels(task, labels)


def _with_labels(task: Task, labels: Sequence[str]) -> Task:
    # Only a task whose targets are class indices has use for the names; a regression's loss has none.
    import torch.nn.functional as F

    return replace(task, labels=labels) if task.loss is F.cross_entropy else task
