"""A plan: what to keep, in terms of the original model, as data.

``kept`` names, for every axis that changes, the original indices that stay, sorted. A plan can be replayed on
the untouched model, saved, and put after another: ``first.then(second)``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from secateur.coupling import Groups, chosen_blocks, remove_blocks, renumbered
from secateur.errors import PlanError, RequestError
from secateur.files import whole_file

VERSION = 1

Kept = Mapping[str, Mapping[int, tuple[int, ...]]]


@dataclass(frozen=True)
class Plan:
    """What to keep of a model.

    Args:
        fingerprint: of the model the indices refer to.
        kept: ``{parameter or buffer: {axis: sorted original indices}}`` for the axes that change.
        removed: names of the blocks that are removed whole, see :func:`secateur.coupling.find_blocks`.
        permuted: what is permuted first.
        version: of this format.
    """

    fingerprint: str
    kept: Kept
    removed: tuple[str, ...] = ()
    permuted: Kept = field(default_factory=dict)
    version: int = VERSION

    def then(self, second: Plan) -> Plan:
        """The plan that does this one, and on its result ``second``.

        Raises:
            PlanError: ``second`` keeps indices that this plan leaves nothing at.
        """
        kept = {name: dict(axes) for name, axes in self.kept.items()}
        for name, axes in second.kept.items():
            for axis, indices in axes.items():
                first = kept.get(name, {}).get(axis)
                if first is not None and indices and indices[-1] >= len(first):
                    raise PlanError(
                        f"the second plan keeps index {indices[-1]} of '{name}' axis {axis}, "
                        f"where the first leaves {len(first)}; make it on the model that the first plan gives"
                    )
                kept.setdefault(name, {})[axis] = (
                    tuple(indices) if first is None else tuple(first[i] for i in indices)
                )
        return Plan(self.fingerprint, kept, renumbered(self.removed, second.removed), self.permuted)

    def to_json(self) -> dict[str, Any]:
        """The plan as plain data, with a digest of its own content."""
        body = {
            "version": self.version,
            "fingerprint": self.fingerprint,
            "kept": {n: {str(a): list(i) for a, i in axes.items()} for n, axes in self.kept.items()},
            "removed": list(self.removed),
            "permuted": {n: {str(a): list(i) for a, i in axes.items()} for n, axes in self.permuted.items()},
        }
        return {**body, "digest": _digest(body)}

    @classmethod
    def from_json(cls, data: Any, origin: str = "the plan") -> Plan:
        """The inverse of :meth:`to_json`.

        Raises:
            PlanError: the data is not a plan, or was altered.
        """
        try:
            body = {k: data[k] for k in ("version", "fingerprint", "kept", "removed", "permuted")}
            digest = data["digest"]
        except (TypeError, KeyError) as error:
            raise PlanError(f"{origin} is not a plan: it has no {error}; make it anew") from error
        if body["version"] != VERSION:
            raise PlanError(
                f"{origin} is of version {body['version']}; this Secateur reads version {VERSION}"
            )
        if digest != _digest(body):
            raise PlanError(
                f"{origin} was altered after it was written: its digest does not match; make it anew"
            )
        try:
            kept, permuted = _indices(body["kept"]), _indices(body["permuted"])
        except (AttributeError, TypeError, ValueError) as error:
            raise PlanError(f"{origin} does not hold indices by parameter and axis; make it anew") from error
        return cls(body["fingerprint"], kept, tuple(body["removed"]), permuted)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the plan as JSON, whole or not at all."""
        with whole_file(Path(path)) as partial:
            partial.write_text(json.dumps(self.to_json()))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """Reads a plan.

        Raises:
            PlanError: the file is missing, truncated, altered, or no plan.
        """
        try:
            data = json.loads(Path(path).read_text())
        except OSError as error:
            raise PlanError(f"cannot read the plan {path}: {error.strerror}") from error
        except ValueError as error:
            raise PlanError(f"{path} is truncated or no JSON: {error}; make the plan anew") from error
        return cls.from_json(data, str(path))


def plan_of(groups: Groups, dead_atoms: np.ndarray) -> Plan:
    """The plan that removes these atoms, and the blocks that the groups are without."""
    alive = groups.coupling.alive(dead_atoms)
    kept: dict[str, dict[int, tuple[int, ...]]] = {}
    for name, axes in groups.coupling.state_axes.items():
        if name in groups.removal.state:
            continue
        for i, axis in enumerate(axes):
            mask = groups.coupling.keep(axis, alive)
            if not mask.all():
                kept.setdefault(name, {})[i] = tuple(np.nonzero(mask)[0].tolist())
    return Plan(groups.graph.fingerprint, kept, groups.removal.names)


def without_removed(groups: Groups, plan: Plan) -> Groups:
    """The groups without the blocks that a plan removes.

    Raises:
        PlanError: the plan is for another model.
    """
    return remove_blocks(groups, _removed(groups, plan))


def _removed(groups: Groups, plan: Plan) -> tuple[str, ...]:
    """The blocks that a plan removes, sorted; a module that is no block stands for all of those in it."""
    if plan.fingerprint != groups.graph.fingerprint:
        raise PlanError(
            f"the plan is for a model with fingerprint {plan.fingerprint}, this one has {groups.graph.fingerprint}; "
            "apply it to the model it was made for"
        )
    if not plan.removed:
        return ()
    try:
        return tuple(sorted(b.name for b in chosen_blocks(groups.blocks, plan.removed)))
    except RequestError as error:
        raise PlanError(f"the plan does not fit the model: {error}") from error


def dead_atoms(groups: Groups, plan: Plan) -> np.ndarray:
    """The atoms that a plan removes.

    An atom lives if any position it has a part in is kept; the plan must then keep exactly what follows.

    Raises:
        PlanError: the plan is for another model, or keeps what the coupling does not allow.
    """
    if (removed := _removed(groups, plan)) != groups.removal.names:
        raise PlanError(
            f"the plan removes {', '.join(removed) or 'no block'}, the groups are without "
            f"{', '.join(groups.removal.names) or 'none'}; take its blocks out of them first (without_removed)"
        )
    kept = {name: axes for name, axes in plan.kept.items() if name not in groups.removal.state}
    state = groups.coupling.state_axes
    masks: dict[tuple[str, int], np.ndarray] = {}
    for name, axes in kept.items():
        for axis, indices in axes.items():
            if name not in state or not 0 <= axis < len(state[name]):
                raise PlanError(f"the plan names '{name}' axis {axis}, which the model does not have")
            size = len(state[name][axis])
            if not indices or indices[0] < 0 or indices[-1] >= size or any(np.diff(indices) <= 0):
                raise PlanError(
                    f"the plan's indices for '{name}' axis {axis} (size {size}) are not sorted and inside"
                )
            masks[name, axis] = np.isin(np.arange(size), indices)
    dead = []
    for group in groups:
        touched = [(m, masks[m.param, m.axis]) for m in group.members if (m.param, m.axis) in masks]
        if touched:
            lives = np.any([mask[m.positions].any(axis=1) for m, mask in touched], axis=0)
            dead.append(group.atoms[~lives])
    atoms = np.concatenate(dead) if dead else np.empty(0, dtype=np.int64)
    implied = plan_of(groups, atoms).kept
    if {n: {a: tuple(i) for a, i in axes.items()} for n, axes in kept.items()} != implied:
        different = next((n for n in sorted({*implied, *kept}) if implied.get(n) != kept.get(n)), "?")
        raise PlanError(
            f"the plan splits what is coupled, first at '{different}': it was altered or is for another model"
        )
    return atoms


def _digest(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _indices(data: Any) -> dict[str, dict[int, tuple[int, ...]]]:
    return {
        name: {int(a): tuple(int(i) for i in idx) for a, idx in axes.items()} for name, axes in data.items()
    }
