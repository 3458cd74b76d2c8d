"""A plan: what to keep, in terms of the original model, as data.

``kept`` names, for every axis that changes, the original indices that stay, sorted. They may be other ones in each
head, or in each group of a convolution, as many in each. A plan can be replayed on the untouched model, saved, and
put after another: ``first.then(second)``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from secateur.coupling import Groups
from secateur.errors import PlanError
from secateur.files import whole_file
from secateur.graph import outputs
from secateur.planning.choice import Blocks, Choice, Orders, normal, original_indices, read_choice
from secateur.planning.sequence import Kept, Permuted, compose

VERSION = 1


@dataclass(frozen=True)
class Fold:
    """A factor that weights take so that a constant computed from widths may change.

    Args:
        node: name of the call in the traced program.
        operands: its arguments of which one is multiplied, the preferred one first.
        factor: by which.
        arguments: what the call's arguments become.
    """

    node: str
    operands: tuple[str, ...]
    factor: float
    arguments: Mapping[str, float]


@dataclass(frozen=True)
class Plan:
    """What to keep of a model.

    Where heads and their dimensions are merged on one axis, as in the output of a query's projection, ``kept`` says
    all: each head keeps the indices of its own that are named, as many as every other head, in their order. The
    inputs of a grouped convolution have no such axis: ``weight [groups * out, inputs of a group]`` holds one set of
    columns for each block of rows. There, ``permuted`` names the columns of each block, and ``kept`` counts positions
    after the permutation that puts these first. :meth:`take` applies both to a tensor.

    Args:
        fingerprint: of the model the indices refer to.
        kept: ``{parameter or buffer: {axis: sorted original indices}}`` for the axes that change.
        removed: what is removed whole.
        permuted: ``{parameter or buffer: {axis: Blocks}}``, for the axes along which each block of another axis
            keeps indices of its own.
        folded: factors that weights take besides those of attention's default scale: where the user's own class
            computes a constant from its widths.
        version: of this format.
        outputs: for outputs that were set free and get narrower, by index: ``{axis: sorted original indices}`` that are
            left; what reads such an output must be cut alike.
    """

    fingerprint: str
    kept: Kept
    removed: tuple[str, ...] = ()
    permuted: Permuted = field(default_factory=dict)
    folded: tuple[Fold, ...] = ()
    version: int = VERSION
    outputs: Mapping[int, Mapping[int, tuple[int, ...]]] = field(default_factory=dict)

    def then(self, second: Plan) -> Plan:
        """The plan that does this one, and on its result ``second``.

        Raises:
            PlanError: ``second`` keeps indices that this plan leaves nothing at.
        """
        kept, permuted = compose(self.kept, self.permuted, second.kept, second.permuted)
        folded = _composed(self.folded, second.folded)
        outputs = {index: dict(axes) for index, axes in self.outputs.items()}
        for index, narrowed in second.outputs.items():
            for axis, indices in narrowed.items():
                before = outputs.setdefault(index, {}).get(axis)
                outputs[index][axis] = tuple(indices) if before is None else tuple(before[i] for i in indices)
        removed = self.removed + second.removed
        return Plan(self.fingerprint, kept, removed, permuted, folded, outputs=outputs)

    def take(self, name: str, tensor: Tensor) -> Tensor:
        """The part that stays of a tensor shaped like the parameter called ``name``, such as its momentum."""
        blocks = self.permuted.get(name, {})
        for axis, indices in self.kept.get(name, {}).items():
            if axis not in blocks:
                tensor = tensor.index_select(axis, torch.tensor(indices, device=tensor.device))
        for axis, block in blocks.items():
            parts = [
                rows.index_select(axis, torch.tensor(indices, device=tensor.device))
                for rows, indices in zip(tensor.split(block.rows, block.over), block.indices, strict=True)
            ]
            tensor = torch.cat(parts, block.over)
        return tensor

    def to_json(self) -> dict[str, Any]:
        """The plan as plain data, with a digest of its own content."""
        body = {
            "version": self.version,
            "fingerprint": self.fingerprint,
            "kept": {n: {str(a): list(i) for a, i in axes.items()} for n, axes in self.kept.items()},
            "removed": list(self.removed),
            "permuted": {
                n: {str(a): {**asdict(b), "indices": [list(i) for i in b.indices]} for a, b in axes.items()}
                for n, axes in self.permuted.items()
            },
        }
        if self.outputs:
            body["outputs"] = {
                str(o): {str(a): list(i) for a, i in axes.items()} for o, axes in self.outputs.items()
            }
        if self.folded:
            body["folded"] = [{**asdict(f), "operands": list(f.operands)} for f in self.folded]
        return {**body, "digest": _digest(body)}

    @classmethod
    def from_json(cls, data: Any, origin: str = "the plan") -> Plan:
        """The inverse of :meth:`to_json`.

        Raises:
            PlanError: the data is not a plan, or was altered.
        """
        try:
            body = {k: data[k] for k in ("version", "fingerprint", "kept", "removed", "permuted")}
            body |= {"outputs": data["outputs"]} if "outputs" in data else {}
            digest = data["digest"]
            body |= {"folded": data["folded"]} if "folded" in data else {}
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
            kept, permuted = _indices(body["kept"]), _blocks(body["permuted"])
            folded = tuple(Fold(**{**f, "operands": tuple(f["operands"])}) for f in body.get("folded", ()))
            outputs = {int(o): axes for o, axes in _indices(body.get("outputs", {})).items()}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise PlanError(f"{origin} does not hold indices by parameter and axis; make it anew") from error
        return cls(body["fingerprint"], kept, tuple(body["removed"]), permuted, folded, outputs=outputs)

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


def _composed(first: tuple[Fold, ...], second: tuple[Fold, ...]) -> tuple[Fold, ...]:
    """Factors of both, multiplied where they are those of one call."""
    found = {f.node: f for f in first}
    for fold in second:
        before = found.get(fold.node)
        factor = fold.factor * (before.factor if before else 1.0)
        found[fold.node] = replace(fold, factor=factor)
    return tuple(found.values())


def plan_of(groups: Groups, dead_atoms: np.ndarray, orders: Orders | None = None) -> Plan:
    """The plan that removes these atoms.

    Args:
        groups: of the model that the plan is for.
        dead_atoms: int64.
        orders: where each context keeps units of its own, the units of each in their order; see
            :class:`secateur.scoring.Scores`. The n-th atom of such a group then means what stands n-th.
    """
    choice = normal(groups, dead_atoms, orders or {})
    kept, permuted = original_indices(groups, choice)
    return Plan(
        groups.graph.fingerprint,
        {name: {axis: tuple(i) for axis, i in axes.items()} for name, axes in kept.items()},
        permuted=permuted,
        outputs=_narrowed(groups, groups.coupling.alive(choice.dead)),
    )


def _narrowed(groups: Groups, alive: np.ndarray) -> dict[int, dict[int, tuple[int, ...]]]:
    """What is left of the outputs that get narrower, by index and axis."""
    found: dict[int, dict[int, tuple[int, ...]]] = {}
    for output in outputs(groups.graph):
        for i, axis in enumerate(groups.coupling.values[output.node].axes):
            mask = groups.coupling.keep(axis, alive)
            if not mask.all():
                found.setdefault(output.index, {})[i] = tuple(np.nonzero(mask)[0].tolist())
    return found


def dead_atoms(groups: Groups, plan: Plan) -> np.ndarray:
    """The atoms that a plan removes, see :func:`choice_of`; enough for sizes and costs."""
    return choice_of(groups, plan).dead


def choice_of(groups: Groups, plan: Plan) -> Choice:
    """What a plan removes, in terms of a model's groups.

    An atom lives if any position it has a part in is kept; the plan must then keep exactly what follows.

    Raises:
        PlanError: the plan is for another model, or keeps what the coupling does not allow.
    """
    if plan.fingerprint != groups.graph.fingerprint:
        raise PlanError(
            f"the plan is for a model with fingerprint {plan.fingerprint}, this one has {groups.graph.fingerprint}; "
            "apply it to the model it was made for"
        )
    state = groups.coupling.state_axes
    masks: dict[tuple[str, int], np.ndarray] = {}
    for name, axes in plan.kept.items():
        for axis, indices in axes.items():
            if name not in state or not 0 <= axis < len(state[name]):
                raise PlanError(f"the plan names '{name}' axis {axis}, which the model does not have")
            size = len(state[name][axis])
            if not indices or indices[0] < 0 or indices[-1] >= size or any(np.diff(indices) <= 0):
                raise PlanError(
                    f"the plan's indices for '{name}' axis {axis} (size {size}) are not sorted and inside"
                )
            if axis not in plan.permuted.get(name, {}):
                masks[name, axis] = np.isin(np.arange(size), indices)
    choice = read_choice(groups, masks)
    implied = plan_of(groups, choice.dead, choice.orders)
    for ours, theirs in ((plan.kept, implied.kept), (plan.permuted, implied.permuted)):
        different = [n for n in sorted({*ours, *theirs}) if dict(ours.get(n, {})) != theirs.get(n, {})]
        if different:
            raise PlanError(
                f"the plan splits what is coupled, first at '{different[0]}': "
                "it was altered or is for another model"
            )
    if plan.outputs and plan.outputs != implied.outputs:
        raise PlanError(
            "the plan's outputs are not what its parameters give: it was altered or is for another model"
        )
    return choice


def _digest(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _indices(data: Any) -> dict[str, dict[int, tuple[int, ...]]]:
    return {
        name: {int(a): tuple(int(i) for i in idx) for a, idx in axes.items()} for name, axes in data.items()
    }


def _blocks(data: Any) -> dict[str, dict[int, Blocks]]:
    return {
        name: {
            int(a): Blocks(
                int(b["over"]), int(b["rows"]), tuple(tuple(int(i) for i in idx) for idx in b["indices"])
            )
            for a, b in axes.items()
        }
        for name, axes in data.items()
    }
