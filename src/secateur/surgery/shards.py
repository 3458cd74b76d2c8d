"""Cuts a checkpoint tensor by tensor: a plan for a model too large for memory, applied to its safetensors.

The model is built on the meta device and analysed from its shapes. Every tensor of the checkpoint is then read, given
the factors that the cut folds into weights, sliced and written before the next one is read. Before that a twin, the
same model with two of its repeated blocks, is cut in the ordinary way with the checkpoint's weights, verified at every
node; each tensor of the twin must come out of the checkpoint bit for bit as it came out of the twin. The rest is sliced
by the same plan without being run, except on shapes. ``cut.json`` says all that.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor, fx, nn

from secateur.coupling import Groups, Operator, Rule, find_groups
from secateur.errors import CorruptFile, InputError, NotVerified
from secateur.files import whole_folder
from secateur.graph import Dynamic, as_shapes, fetch, trace
from secateur.planning import Plan
from secateur.surgery.checkpoint import Checkpoint, Stored, by_file, open_checkpoint, write_file
from secateur.surgery.cut import Cut, cut_groups
from secateur.surgery.twin import Expected, Twin, digest, expected_of, given, shortened
from secateur.surgery.verify import Verification
from secateur.task import Inputs

RECORD, PLAN = "cut.json", "plan.json"


@dataclass(frozen=True)
class CutShards:
    """A checkpoint that was cut.

    Args:
        folder: holds the shards, their index, ``plan.json`` and ``cut.json``.
        record: what ``cut.json`` says.
        verification: of the twin, against the masked twin.
        module: the cut program on the meta device; ``load_state_dict(tensors, strict=False, assign=True)`` fills it.
    """

    folder: Path
    record: Mapping[str, Any]
    verification: Verification
    module: fx.GraphModule


def cut_shards(
    model: nn.Module,
    plan: Plan,
    example_inputs: Inputs,
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    twin: nn.Module | None = None,
    rules: Mapping[str, Rule | Operator] | None = None,
    dynamic: Dynamic | None = None,
) -> CutShards:
    """Applies a plan to a checkpoint, one tensor at a time, and writes a smaller one.

    Args:
        model: the model of the checkpoint, on the meta device; it is not changed.
        plan: what to keep, found on this model.
        example_inputs: as for :func:`secateur.trace`, with values: the twin is run on them.
        checkpoint: a folder with safetensors, their index, or one safetensors file.
        out: a folder that is not there yet; it appears whole or not at all.
        twin: a small model of the same class with values for what no checkpoint stores: with two layers, say, at the
            same widths; along axes that the plan leaves alone, such as the vocabulary, it may be shorter. By default
            the model's own program, without all but the first and the last of each list of equal blocks.
        rules: those that the plan's groups were found with.
        dynamic: as for :func:`secateur.trace`.

    Raises:
        PlanError: the plan is for another model.
        InputError: the checkpoint lacks a tensor, or one has another shape or type than the model's.
        CorruptFile: a file of the checkpoint is missing, truncated or altered.
        NotVerified: the twin's cut differs from the masked twin, or the checkpoint's tensors from the twin's.
        RunFolderError: ``out`` is there already, or cannot be written.
    """
    store = open_checkpoint(checkpoint)
    shapes = as_shapes(model)
    free = {index: list(axes) for index, axes in plan.outputs.items()}
    groups = find_groups(trace(shapes, example_inputs, dynamic=dynamic), rules, free)
    whole = cut_groups(groups, plan)
    slicing = _Slicing(store, shapes, groups, plan, whole)
    slicing.check()

    def made() -> Twin:
        if twin is None:
            return shortened(groups, plan, example_inputs, slicing.read, dict(model.named_buffers()), rules)
        return given(twin, plan, example_inputs, slicing.read, slicing.canonical, rules, dynamic)

    with whole_folder(Path(out)) as folder:
        proof = _proof(made, slicing)
        slicing.write(folder, proof.expected)
        record = _record(slicing, proof)
        plan.save(folder / PLAN)
        (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n")
    return CutShards(Path(out), record, proof.verification, whole.module)


@dataclass(frozen=True)
class _Proof:
    """What is left of a twin: the check of its cut, what its tensors became by their stored names, and what it was."""

    verification: Verification
    expected: Mapping[str, Expected]
    words: str
    left_out: tuple[str, ...]
    drawn: tuple[str, ...]


def _proof(make: Callable[[], Twin], slicing: _Slicing) -> _Proof:
    """Makes the twin and cuts it; it is gone from memory when this returns."""
    twin = make()
    small, wanted = expected_of(twin)
    expected = {slicing.stored_as[slicing.canonical(name)]: found for name, found in wanted.items()}
    return _Proof(small.verification, expected, twin.words, twin.left_out, twin.drawn)


class _Slicing:
    """Stored tensors, one at a time: by which name the program knows each, and what becomes of it."""

    def __init__(self, store: Checkpoint, model: nn.Module, groups: Groups, plan: Plan, whole: Cut) -> None:
        self.store, self.groups, self.plan, self.whole = store, groups, plan, whole
        self.graph = groups.graph
        self.persistent = model.state_dict(keep_vars=True)
        self.gone = whole.prepared.groups.removal.state
        buffers = dict(model.named_buffers(remove_duplicate=False))
        self._own: dict[str, Any] = {**buffers, **self.persistent}
        names = reversed(self.graph.state_names())  # the first of several
        self._read_as = {id(self.graph.tensor(name)): name for name in names}
        self._scaled = {id(self.graph.tensor(name)): s for name, s in whole.prepared.scaled.items()}

    def canonical(self, name: str) -> str:
        """The program's name of what the model calls so; tied tensors have one."""
        return self._read_as.get(id(self._own.get(name)), name)

    @cached_property
    def stored_as(self) -> Mapping[str, str]:
        """By the program's names, under which name the checkpoint holds each tensor."""
        return {self.canonical(name): name for name in reversed(list(self.store))}

    def read(self, name: str, lengths: tuple[int, ...] | None) -> Tensor | None:
        """A tensor by the program's name, or its leading part along axes that the plan leaves alone."""
        stored = self.stored_as.get(name)
        if stored is None:
            return None
        shape = self.store.tensors[stored].shape
        if lengths is not None and lengths != shape:
            blocks = self.plan.permuted.get(name, {})
            touched = {*self.plan.kept.get(name, {}), *(b.over for b in blocks.values())}
            fits = len(lengths) == len(shape) and all(
                n == whole or (n < whole and axis not in touched)
                for axis, (n, whole) in enumerate(zip(lengths, shape, strict=True))
            )
            if not fits:
                raise InputError(
                    f"the twin's '{name}' has shape {list(lengths)}, the checkpoint's {list(shape)}: a twin may be "
                    "shorter only along axes that the plan leaves alone"
                )
        return self.store.read(stored, lengths)

    # -- before anything is written ------------------------------------------------------------------

    def check(self) -> None:
        """Raises InputError where the checkpoint is not one of this model, or cannot be cut by slicing."""
        graph = self.graph
        for name in graph.state_names():
            known = [n for n, t in self.persistent.items() if t is graph.tensor(name)]
            if known and not any(n in self.store for n in known):
                raise InputError(
                    f"the checkpoint has no '{known[0]}', which the model reads: is it of this model, and is it whole?"
                )
        for name, stored in self.store.tensors.items():
            own = self.persistent.get(name)
            if own is None:
                continue
            if tuple(own.shape) != stored.shape:
                raise InputError(
                    f"'{name}' has shape {list(stored.shape)} in the checkpoint and {list(own.shape)} in the model: "
                    "build the model that the checkpoint is of"
                )
            if stored.torch_dtype != own.dtype and self.canonical(name) in graph.state:
                raise InputError(
                    f"'{name}' is {stored.torch_dtype} in the checkpoint and {own.dtype} in the model: build the model "
                    f"in the checkpoint's type, model.to({stored.torch_dtype})"
                )
        for name, sources in graph.folded.items():
            if name in self.plan.kept or id(graph.tensor(name)) in self._scaled:
                raise InputError(
                    f"'{name}' is cut, and is computed from {' and '.join(sources)}, which alone are stored: store the "
                    "weight itself (torch.nn.utils.parametrize.remove_parametrizations), then cut the checkpoint"
                )

    # -- writing -------------------------------------------------------------------------------------

    @cached_property
    def entries(self) -> Mapping[str, Stored]:
        """What will be written."""
        out = {}
        for name, stored in self.store.tensors.items():
            own = self.canonical(name)
            if own in self.gone:
                continue
            cut = own in self.plan.kept or own in self.plan.permuted
            shape = tuple(fetch(self.whole.module, own).shape) if cut else stored.shape
            out[name] = replace(stored, shape=shape)
        return out

    def cut(self, name: str) -> Tensor:
        """What becomes of a stored tensor."""
        own = self.canonical(name)
        tensor = self.store.read(name)
        scaled = self._scaled.get(id(self.graph.state.get(own)))
        if scaled is not None:
            tensor = scaled.apply(tensor)
        return self.plan.take(own, tensor)

    def write(self, folder: Path, expected: Mapping[str, Expected]) -> None:
        """Writes the shards and their index.

        Raises:
            NotVerified: a tensor is not what it became in the twin.
        """

        def checked(name: str) -> Tensor:
            tensor = self.cut(name)
            wanted = expected.get(name)
            if wanted is not None:
                part = tensor[tuple(slice(n) for n in wanted.shape)] if wanted.shape else tensor
                if tuple(part.shape) != wanted.shape or digest(part) != wanted.digest:
                    raise NotVerified(f"'{name}' does not become what it becomes in the twin", name)
            return tensor

        for file, entries in by_file(self.entries):
            write_file(folder / file.name, entries, checked, self.store.metadata[file])
        if self.store.index is not None:
            given_metadata = self.store.extra.get("metadata", {})
            index = {
                **self.store.extra,
                "metadata": {**given_metadata, "total_size": sum(e.bytes for e in self.entries.values())},
                "weight_map": {name: e.file.name for name, e in sorted(self.entries.items())},
            }
            (folder / self.store.index.name).write_text(json.dumps(index, indent=2) + "\n")
        written = {name: e.shape for name, e in open_checkpoint(folder).tensors.items()}
        if written != {name: e.shape for name, e in self.entries.items()}:
            raise CorruptFile(f"what was written to {folder} is not what was meant: is the disk sound?")


def _record(slicing: _Slicing, proof: _Proof) -> dict[str, Any]:
    """What ``cut.json`` says."""
    store, entries, plan = slicing.store, slicing.entries, slicing.plan
    known = {name: slicing.canonical(name) in slicing.graph.state for name in store}
    proved = [name for name in entries if name in proof.expected]
    unrun = [name for name in entries if known[name] and name not in proof.expected]
    error = proof.verification.max_relative_error
    said = (
        f"A twin ({proof.words}) was cut with the checkpoint's weights and compared with the masked twin at "
        f"{proof.verification.nodes} nodes, largest relative error {error:.2g}; its {len(proved)} tensors became bit "
        f"for bit what stands in these files. The other {len(unrun)} tensors were sliced by the same plan and were not "
        f"run; the whole cut program was run on shapes alone, {slicing.whole.verification.nodes} nodes."
    )
    return {
        "version": 1,
        "said": said,
        "plan": {"fingerprint": plan.fingerprint, "digest": plan.to_json()["digest"]},
        "bytes": {"before": store.bytes, "after": sum(e.bytes for e in entries.values())},
        "verification": {
            "kind": "twin",
            "twin": proof.words,
            "blocks_left_out": list(proof.left_out),
            "drawn_at_random": list(proof.drawn),
            "cut_of_the_twin": asdict(proof.verification),
            "equal_bit_for_bit": proved,
            "sliced_without_being_run": unrun,
            "nodes_run_on_shapes": slicing.whole.verification.nodes,
        },
        "scaled": sorted(slicing.whole.prepared.scaled),
        "scale_kept_in_the_program": [list(pair) for pair in slicing.whole.prepared.unfolded],
        "dropped_with_removed_blocks": [name for name in store if name not in entries],
        "not_read_by_the_model": [name for name in entries if not known[name]],
    }
