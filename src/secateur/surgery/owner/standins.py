"""Removed blocks in the user's own class: which modules go, and what stands in for each.

The program says what is gone and which value stands for which; the class is run once more, on the example inputs and
another batch, with an ear at the modules that go. What such a module returns is found again among the values of
the program: one that stands for the stream is handed on from what comes in, one that nothing needs any more becomes
zeros. Code between modules is the user's and goes on running; whether it then computes what it should is what the check
of the class is for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import Parameter
from torch.utils import _pytree as pytree

from secateur.coupling import PASSES, Groups, Value, form
from secateur.graph import is_tensor, op_name
from secateur.surgery.compare import relative_error
from secateur.surgery.owner.calling import outputs_of, samples
from secateur.surgery.owner.hollow import Passed, Removed, Returned, Zeros, tensors_in
from secateur.surgery.sizes import Sizes

_CLOSE = 1e-4  # relative: the same value, computed once by the class and once by the program


@dataclass(frozen=True)
class StandIns:
    """What becomes of the modules of removed blocks.

    Args:
        modules: by path, what each call returns, with sizes as axes of the program where they may change.
        bare: parameters of modules that stay.
        nodes: of the program, which the class does not run any more.
        reason: why the blocks cannot be removed from the class; empty if they can.
        doubt: what might keep the class from computing the right thing; empty if nothing is known.
    """

    modules: Mapping[str, _Recipe] = field(default_factory=dict)
    bare: tuple[str, ...] = ()
    nodes: frozenset[fx.Node] = frozenset()
    reason: str = ""
    doubt: str = ""

    def at(self, sizes: Sizes) -> Removed:
        """The same with the sizes of a cut."""
        return Removed(
            {path: recipe.at(sizes) for path, recipe in self.modules.items()}, self.bare, self.doubt
        )


@dataclass(frozen=True)
class _Recipe:
    """What a module returns, its constant sizes not yet known: :class:`Zeros` with axes of the program."""

    leaves: tuple[Any, ...]
    structure: pytree.TreeSpec
    axes: Mapping[int, Value]  # for a leaf of zeros, the program's value, whose axes have the sizes

    def at(self, sizes: Sizes) -> Returned:
        leaves = list(self.leaves)
        for i, value in self.axes.items():
            told = [
                sizes.of(axis) if isinstance(n, int) else n
                for n, axis in zip(leaves[i].sizes, value.axes, strict=True)
            ]
            leaves[i] = Zeros(tuple(told), leaves[i].dtype, leaves[i].like)
        return Returned(tuple(leaves), self.structure)


@dataclass(frozen=True)
class _Heard:
    """One call of a module that goes: what came in as it was then, and what came out."""

    path: str
    given: tuple[Tensor, ...]  # the tensors themselves
    copies: tuple[Tensor, ...]
    leaves: tuple[Any, ...]
    copied: tuple[Any, ...]
    structure: pytree.TreeSpec


class _Unknown(Exception):
    """What a module returns could not be told."""


def find_standins(model: nn.Module, groups: Groups, unread: Collection[fx.Node] = frozenset()) -> StandIns:
    """What stands in for the modules of the blocks that ``groups`` are without.

    Args:
        model: the user's module; it is not changed.
        groups: of its program, without blocks.
        unread: calls whose values nothing reads, and which the class makes all the same.
    """
    removal = groups.removal
    if not removal.blocks:
        return StandIns()
    members = _members(groups)
    replaced = (removal.gone | removal.stands.keys()) - set(unread)
    gone = [p for p, nodes in members.items() if p and all(n in replaced or _idle(n) for n in nodes)]
    gone = [p for p in gone if members[p] & replaced]
    paths = sorted(p for p in gone if not any(p.startswith(q + ".") for q in gone))
    nodes = frozenset().union(*(members[p] for p in paths))
    parameters = {n for n in removal.state if isinstance(groups.graph.tensor(n), Parameter)}
    bare = tuple(sorted(n for n in parameters if not any(n.startswith(p + ".") for p in paths)))
    for block in removal.blocks:
        if nodes.isdisjoint(block.nodes) and not any(n in bare for n in block.params):
            words = f"the weights of '{block.name}' are read elsewhere too, so its module stays and runs"
            return StandIns(reason=words)
    try:
        recipes = _Listener(model, groups, paths, members).recipes()
    except _Unknown as unknown:
        return StandIns(reason=str(unknown))
    left = next((b for b in removal.blocks if b.exit in removal.bypassed and b.exit not in nodes), None)
    doubt = (
        f"code outside of the modules of '{left.name}' belongs to it, at {left.source}, and stays"
        if left
        else ""
    )
    return StandIns(recipes, bare, nodes, doubt=doubt)


def _members(groups: Groups) -> dict[str, set[fx.Node]]:
    """For each module, the calls that it and the modules in it make."""
    found: dict[str, set[fx.Node]] = {}
    for node in groups.graph.nodes:
        if is_tensor(node) and node.op == "call_function":  # sizes are computed once for all who ask
            for path, *_ in (node.meta.get("nn_module_stack") or {}).values():
                found.setdefault(path.partition("@")[0], set()).add(node)
    return found


def _call(node: fx.Node, path: str) -> str | None:
    """Which call of a module a node belongs to, by the exporter's name for it."""
    stack = node.meta.get("nn_module_stack") or {}
    return next((key for key, (name, *_) in stack.items() if name.partition("@")[0] == path), None)


def _idle(node: fx.Node) -> bool:
    """Whether a node hands on a tensor as it is: a cast to the type that it has, say."""
    given = node.args[0] if node.args else None
    return op_name(node) in PASSES and isinstance(given, fx.Node) and form(node) == form(given)


class _Listener:
    """Runs the class beside the program and tells what the modules that go return."""

    def __init__(
        self,
        model: nn.Module,
        groups: Groups,
        paths: Sequence[str],
        members: Mapping[str, Collection[fx.Node]],
    ) -> None:
        self.model, self.groups, self.paths, self.members = model, groups, paths, members
        self.stands, self.instead = groups.removal.stands, groups.removal.instead
        self.bypassed = groups.removal.unseen

    def recipes(self) -> dict[str, _Recipe]:
        """For each path, what its module returns; the same in every call.

        Raises:
            _Unknown: a module is not called, or what it returns cannot be told.
        """
        graph = self.groups.graph
        runs = [self._calls(args, kwargs) for args, kwargs in samples(self.model, graph)]
        needed = {m for pair in self.stands.items() for m in pair}
        needed |= {n for p in self.paths for n in self._exits(p)}
        needed |= {self._root(n) for n in needed}
        values = _values(graph.module, needed, graph.args, graph.kwargs)
        carried: dict[int, fx.Node] = {}
        found: dict[str, _Recipe] = {}
        for calls in zip(*runs, strict=True):
            path = calls[0].path
            recipe = self._recipe(calls, values, carried)
            if found.setdefault(path, recipe) != recipe:
                raise _Unknown(f"the module '{path}' is called several times, each time otherwise")
        silent = [p for p in self.paths if p not in found]
        if silent:
            raise _Unknown(f"the code of '{silent[0]}' is run without calling the module")
        return found

    def _calls(self, args: Any, kwargs: Any) -> list[_Heard]:
        calls: list[_Heard] = []
        pending: list[tuple[list[Tensor], list[Tensor]]] = []

        def before(module: nn.Module, args: Any, kwargs: Any) -> None:
            given = tensors_in((args, kwargs))
            pending.append((given, [t.detach().clone() for t in given]))

        def after(path: str) -> Any:
            def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
                given, copies = pending.pop()
                leaves, structure = pytree.tree_flatten(output)
                copied = [t.detach().clone() if isinstance(t, Tensor) else t for t in leaves]
                calls.append(
                    _Heard(path, tuple(given), tuple(copies), tuple(leaves), tuple(copied), structure)
                )

            return hook

        with contextlib.ExitStack() as stack, _plain_attention():
            for path in self.paths:
                module = self.model.get_submodule(path)
                stack.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
                stack.callback(module.register_forward_hook(after(path), with_kwargs=True).remove)
            outputs_of(self.model, args, kwargs, {})
        return calls

    def _exits(self, path: str) -> list[fx.Node]:
        """The nodes of a module whose values are read outside of the call that made them."""
        return [n for n in self.members[path] if any(_call(u, path) != _call(n, path) for u in n.users)]

    def _recipe(
        self, calls: Sequence[_Heard], values: Mapping[fx.Node, Any], carried: dict[int, fx.Node]
    ) -> _Recipe:
        call, leaves, axes = calls[0], list[Any](), dict[int, Value]()
        for i, leaf in enumerate(call.leaves):
            if not isinstance(leaf, Tensor):
                leaves.append(leaf)
                continue
            same = next((k for k, t in enumerate(call.given) if t is leaf), None)
            copy = call.copied[i]
            exits = [n for n in self._exits(call.path) if _equal(copy, values.get(n))]
            standing = next((n for n in exits if n in self.stands), None)
            stream = self._root(standing) if standing is not None else self._stream(call, exits)
            if stream is not None:
                same = self._holding(call, stream, values, carried)
                if same is None and standing in self.instead:
                    raise _Unknown(
                        f"the module '{call.path}' cannot hand on {stream.name}: it does not come in"
                    )
                if same is not None:
                    carried[id(leaf)] = stream
            if same is not None:
                leaves.append(Passed(same))
                continue
            leaves.append(_zeros([(c.given, c.leaves[i]) for c in calls], call.path))
            value = next(
                (v for n in exits if isinstance(v := self.groups.coupling.values.get(n), Value)), None
            )
            if value is not None:
                axes[i] = value
        return _Recipe(tuple(leaves), call.structure, axes)

    def _stream(self, call: _Heard, exits: Iterable[fx.Node]) -> fx.Node | None:
        """What goes through a module that is part of a bypassed block, on its way to the block's end."""
        inside = [n for n in exits if n in self.bypassed]
        for output, given in self.groups.removal.bypassed.items():
            block = next(b for b in self.groups.removal.blocks if b.exit is output)
            if any(n in block.nodes for n in inside):
                return self._root(given)
        return None

    def _root(self, node: fx.Node) -> fx.Node:
        """Whose value a node has once the blocks are gone."""
        while node in self.stands or _idle(node):
            given = self.stands.get(node, node.args[0])
            assert isinstance(given, fx.Node)
            node = given
        return node

    def _holding(
        self, call: _Heard, stream: fx.Node, values: Mapping[fx.Node, Any], carried: Mapping[int, fx.Node]
    ) -> int | None:
        """Which of the tensors that come in will hold the stream."""
        alike = [n for n in values if self._root(n) is stream]
        known = [k for k, t in enumerate(call.given) if carried.get(id(t)) is stream]
        known += [k for k, t in enumerate(call.copies) if any(_equal(t, values.get(n)) for n in alike)]
        return known[0] if known else None


def _zeros(runs: Sequence[tuple[Sequence[Tensor], Tensor]], path: str) -> Zeros:
    """Zeros of the shape that a module returned; sizes that follow the batch are read off what comes in."""
    given, leaf = runs[0]
    like = next((k for k, t in enumerate(given) if t.is_floating_point()), 0)
    if not given:
        raise _Unknown(f"the module '{path}' takes no tensor that zeros could be shaped after")
    sizes: list[int | tuple[int, int]] = []
    for axis, size in enumerate(leaf.shape):
        seen = [out.shape[axis] for _, out in runs]
        if len(set(seen)) == 1:
            sizes.append(int(size))
            continue
        fits = [
            (k, d)
            for k, t in enumerate(given)
            for d in range(t.dim())
            if [g[k].shape[d] for g, _ in runs] == seen
        ]
        if not fits:
            raise _Unknown(
                f"the module '{path}' returns a size that follows the batch and is no size that comes in"
            )
        sizes.append(min(fits, key=lambda place: (place[1] != axis, place)))
    return Zeros(tuple(sizes), None if given[like].dtype == leaf.dtype else leaf.dtype, like)


def _equal(one: Any, two: Any) -> bool:
    return (
        isinstance(one, Tensor)
        and isinstance(two, Tensor)
        and one.shape == two.shape
        and relative_error(one, two) <= _CLOSE
    )


def _values(
    module: fx.GraphModule, needed: Collection[fx.Node], args: Any, kwargs: Any
) -> dict[fx.Node, Any]:
    """What some nodes of a program compute, as it was then."""
    found: dict[fx.Node, Any] = {}

    class Keeping(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            if n in needed:
                found[n] = result.clone() if isinstance(result, Tensor) else result
            return result

    flat = [
        t.clone() if isinstance(t, Tensor) else t for t in pytree.tree_leaves((tuple(args), dict(kwargs)))
    ]
    with torch.no_grad():
        Keeping(module).run(*flat, enable_io_processing=False)
    return found


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    """torch's fused encoder layer does not call the modules in it: not while it is listened to."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
