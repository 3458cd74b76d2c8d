"""Repeated blocks: elements of a list of equal modules, each a span of the program with one way in and one out.

An element is found by its parameters: ``stages.1.blocks.0`` holds everything that is called so, and the span is
the shortest that computes with all of it and hands on a single value. Elements are repeated when others of
their list hold parameters of the same names (and of the same shapes, unless residual branches make up the
span) and one runs after the other, which tells the layers of a network from its heads or experts. What comes
in must look like what goes out, so that the one can stand in for the other.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor, fx

from secateur.coupling.branches import Branch, form, passed
from secateur.graph import Flow, Graph, fetch, is_tensor


@dataclass(frozen=True)
class Element:
    """One element of a list of modules.

    Args:
        path: of the module, ``"layer1.0"``.
        parameters: names relative to the path, with their shapes.
        span: where it stands in the program, if it has one way out.
        entry: the value that comes in; None if there is none of the form of what goes out.
        reason: why it cannot be bypassed; empty if it can.
    """

    path: str
    parameters: Mapping[str, tuple[int, ...]]
    span: Span | None = None
    entry: fx.Node | None = None
    reason: str = ""

    @property
    def home(self) -> str:
        """The list that it belongs to: its path without the number at the end."""
        return self.path.rstrip("0123456789")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its parameters."""
        return tuple(sorted(self.parameters))


@dataclass(frozen=True)
class Span:
    """Nodes that compute with some parameters, and all that lies between them, up to one exit."""

    nodes: frozenset[fx.Node]
    exit: fx.Node


@dataclass
class Repeats:
    """The lists of modules in a program, and where their elements stand."""

    graph: Graph
    flow: Flow
    branches: Sequence[Branch] = ()
    _readings: dict[str, dict[fx.Node, set[str]]] = field(default_factory=dict)

    @cached_property
    def elements(self) -> dict[str, list[Element]]:
        """Elements with weights, by list, in the order of the program; lists of one are left out."""
        lists: dict[str, list[Element]] = defaultdict(list)
        for element in self._declared():
            lists[element.home].append(self._placed(element))
        return {home: self._ordered(items) for home, items in lists.items() if len(items) > 1}

    def repeated(self, home: str, branched: Collection[str] = ()) -> list[Element]:
        """Elements of a list that another one resembles and follows or precedes.

        Args:
            home: of the list.
            branched: paths of elements that are made up of residual branches: their inner widths may differ.
        """
        found, place = [], {e.path: i for i, e in enumerate(self.elements[home])}
        for one in self.elements[home]:
            alike = [
                o for o in self.elements[home] if o is not one and o.names == one.names
                if o.parameters == one.parameters or (one.path in branched and _ends_alike(one, o))
            ]  # fmt: skip
            nearest = sorted(alike, key=lambda o: abs(place[o.path] - place[one.path]))
            if one.span and any(self._in_series(one, o) for o in nearest):
                found.append(self._with_entry(one, alike))
        return self._with_tails(found)

    def alone(self, element: Element) -> Element:
        """What keeps an element that no other resembles from being removed."""
        others = [o for o in self.elements[element.home] if o is not element]
        return self._with_entry(element, others) if element.span else element

    # -- where an element stands ---------------------------------------------------------------------

    def _declared(self) -> Iterator[Element]:
        found: dict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)
        for name in self.graph.state_names():
            tensor = self.graph.tensor(name)
            parts = name.split(".")
            for i, part in enumerate(parts[:-1]):
                if part[-1:].isdigit() and isinstance(tensor, torch.nn.Parameter):
                    found[".".join(parts[: i + 1])][".".join(parts[i + 1 :])] = tuple(tensor.shape)
        for path, parameters in found.items():
            matrices = sum(len(shape) > 1 for shape in parameters.values())
            listed = path.rpartition(".")[2].isdigit()
            # A norm by itself is no layer, and layers called conv1 and conv2 make no list.
            if matrices >= (1 if listed else 2):
                yield Element(path, parameters)

    @cached_property
    def _seeds(self) -> dict[str, set[fx.Node]]:
        return first_uses(self.graph, self.flow)

    @cached_property
    def _readers_of_parameters(self) -> dict[fx.Node, set[str]]:
        found: dict[fx.Node, set[str]] = defaultdict(set)
        for name, nodes in self._seeds.items():
            if isinstance(self.graph.tensor(name), torch.nn.Parameter):
                for node in nodes:
                    found[node].add(name)
        return found

    def _placed(self, element: Element) -> Element:
        own = {f"{element.path}.{name}" for name in element.parameters}
        seeds = set().union(*(self._seeds.get(name, set()) for name in own))
        if not seeds:
            return element
        return self._scan(element, seeds, own)

    def _scan(self, element: Element, seeds: set[fx.Node], own: set[str]) -> Element:
        """Follows the program from the first seed until a single value carries everything on."""
        flow, inside = self.flow, set[fx.Node]()
        waiting, unseen = 0, len(seeds)
        for node in flow.nodes[min(flow.order[n] for n in seeds) :]:
            given = [i for i in flow.inputs[node] if i in inside]
            if not given and node not in seeds:
                continue
            if node.op == "output":
                return replace(
                    element, reason="more than one of its values goes on, up to the model's output"
                )
            foreign = self._readers_of_parameters.get(node, set()) - own
            if any(len(self._seeds[name]) == 1 for name in foreign):
                return replace(
                    element, reason="more than one of its values goes on, into layers that are not part of it"
                )
            inside.add(node)
            unseen -= node in seeds
            waiting += len(flow.users[node]) - len(given)
            if not unseen and waiting == len(flow.users[node]) and self._is_exit(node, inside):
                others = set().union(*(self._readers_of_parameters.get(n, set()) for n in inside)) - own
                if any(self._seeds[name] <= inside for name in others):
                    return replace(element, reason="layers that are not part of it lie inside")
                return replace(element, span=Span(frozenset(inside), node))
        return element

    def _is_exit(self, node: fx.Node, inside: set[fx.Node]) -> bool:
        """Whether a span may end here: not where a sum is still to add what came in."""
        if not is_tensor(node):
            return False
        ahead = {node, *self._onward(node)}
        pending = [b for n in ahead | inside if (b := self._terms.get(n)) and b.exit not in inside]
        grown = self._grown(inside) if pending else inside
        return not any(u in grown for b in pending for n in passed(b.entry) for u in self.flow.users[n])

    @cached_property
    def _terms(self) -> dict[fx.Node, Branch]:
        return {b.term: b for b in self.branches}

    def _ordered(self, elements: list[Element]) -> list[Element]:
        last = len(self.flow.nodes)
        return sorted(elements, key=lambda e: self.flow.order[e.span.exit] if e.span else last)

    def _in_series(self, one: Element, two: Element) -> bool:
        if one.span is None or two.span is None:
            return False
        first, second = sorted((one.span, two.span), key=lambda s: self.flow.order[s.exit])
        return bool(first.exit not in second.nodes and self.flow.between(second.exit, {first.exit}))

    # -- what comes in -------------------------------------------------------------------------------

    def _with_entry(self, element: Element, alike: list[Element]) -> Element:
        """The element with the one value that comes in; what others of the list read too (masks, say) is none."""
        assert element.span is not None
        span, order = element.span.nodes, self.flow.order
        others_here = {o.path for o in alike}
        shared = {i for i, paths in self._read_in(element.home).items() if not others_here.isdisjoint(paths)}
        onward: list[fx.Node] = []
        entries: list[fx.Node] = []
        for exit in (element.span.exit, *self._onward(element.span.exit)):
            onward.append(exit)
            reach = self._grown({*span, *onward})
            alike_exit = {
                i for i in {*reach, *self._read(reach)} - span - set(onward) if form(i) == form(exit)
            }
            if entries := sorted(alike_exit - shared or alike_exit, key=order.__getitem__, reverse=True):
                break
        if not entries:
            entering = [i for i in self._read(span) if i not in shared]
            words = " and ".join(dict.fromkeys(map(_sizes, entering))) or "nothing of its own"
            words = f"what comes in is {words}, what goes out {_sizes(element.span.exit)}"
            return replace(element, reason=f"{words}: the one cannot stand in for the other")
        for entry in entries:
            nodes = self._grown({*span, *onward}, entry)
            others = [i for i in self._read(nodes) if i not in shared and i is not entry and self._learnt(i)]
            if not others:
                return replace(element, span=Span(frozenset(nodes), exit), entry=entry)
        names = [i.name for i in self._read({*span, *onward}) if i not in shared and self._learnt(i)]
        reason = f"it reads {' and '.join(names)}, and only one of them can stand in for what goes out"
        return replace(element, span=Span(frozenset({*span, *onward}), exit), reason=reason)

    def _read_in(self, home: str) -> dict[fx.Node, set[str]]:
        """Activations that come into the elements of a list, and into which of them."""
        if home not in self._readings:
            found: dict[fx.Node, set[str]] = defaultdict(set)
            for element in self.elements[home]:
                for node in self._read(element.span.nodes) if element.span else ():
                    found[node].add(element.path)
            self._readings[home] = found
        return self._readings[home]

    def _read(self, nodes: Collection[fx.Node]) -> list[fx.Node]:
        """Activations that come into some nodes from outside."""
        read = {i for n in nodes for i in self.flow.inputs[n] if i in self.flow.active and i not in nodes}
        return sorted(read, key=self.flow.order.__getitem__)

    def _grown(self, nodes: set[fx.Node], entry: fx.Node | None = None) -> set[fx.Node]:
        """These nodes and what is computed for them alone, without parameters, from ``entry`` on."""
        grown = set(nodes)
        pending = self._read(nodes)
        while pending:
            node = pending.pop()  # the latest: its users have been looked at
            alone = all(u in grown for u in self.flow.users[node])
            if (
                alone
                and node is not entry
                and node.op == "call_function"
                and node not in self._readers_of_parameters
            ):
                grown.add(node)
                new = [i for i in self.flow.inputs[node] if i in self.flow.active and i not in grown]
                pending = sorted({*pending, *new}, key=self.flow.order.__getitem__)
        return grown

    def _learnt(self, node: fx.Node) -> bool:
        """Whether parameters went into a value: masks and tables of positions have none."""
        seen, pending = {node}, [node]
        while pending:
            current = pending.pop()
            if current in self._readers_of_parameters:
                return True
            new = [i for i in self.flow.inputs[current] if i in self.flow.active and i not in seen]
            seen.update(new)
            pending += new
        return False

    # -- where it ends -------------------------------------------------------------------------------

    def _with_tails(self, elements: list[Element]) -> list[Element]:
        """Adds to each span the norm and activation between it and the next element, which belong to it."""
        entries = {e.entry for e in elements if e.entry is not None}
        tails = {e.path: self._tail(e, entries) for e in elements}
        kinds = {tuple(str(n.target) for n in tail) for tail in tails.values() if tail}
        out = []
        for element in elements:
            tail = tails[element.path] or self._like(element, kinds)
            if element.span is not None and tail and element.entry is not None:
                nodes = element.span.nodes | set(tail)
                element = replace(element, span=Span(nodes, tail[-1]))
            out.append(element)
        return out

    def _onward(self, node: fx.Node, norms: bool = False) -> Iterator[fx.Node]:
        """Nodes without parameters through which alone a value goes on; on request, also those with vectors only."""
        while len(self.flow.users[node]) == 1:
            node = self.flow.users[node][0]
            given = [i for i in self.flow.inputs[node] if i in self.flow.active]
            if len(given) != 1 or node.op != "call_function":
                return
            weights = [self.graph.tensor(n).dim() for n in self._readers_of_parameters.get(node, ())]
            if weights and (not norms or max(weights) > 1):
                return
            yield node

    def _alike(self, element: Element) -> Iterator[fx.Node]:
        """Those of the form of an element's output, norms included."""
        assert element.span is not None
        exit = element.span.exit
        return itertools.takewhile(lambda n: form(n) == form(exit), self._onward(exit, norms=True))

    def _tail(self, element: Element, entries: set[fx.Node]) -> tuple[fx.Node, ...]:
        passed: list[fx.Node] = []
        for node in self._alike(element):
            passed.append(node)
            if node in entries:
                return tuple(passed)
        return ()

    def _like(self, element: Element, kinds: set[tuple[str, ...]]) -> tuple[fx.Node, ...]:
        """The same tail as another element's, for the last of a list."""
        onward = tuple(self._alike(element))
        fits = [k for k in kinds if tuple(str(n.target) for n in onward[: len(k)]) == k]
        longest = max(map(len, fits), default=0)
        return onward[:longest]


def _ends_alike(one: Element, two: Element) -> bool:
    return one.span is not None and two.span is not None and form(one.span.exit) == form(two.span.exit)


def first_uses(graph: Graph, flow: Flow) -> dict[str, set[fx.Node]]:
    """For each parameter or buffer, the first nodes that use it together with activations."""
    owners: dict[fx.Node, set[str]] = {}
    found: dict[str, set[fx.Node]] = defaultdict(set)
    for node in flow.nodes:
        if node.op == "get_attr":
            value = fetch(graph.module, str(node.target))
            owners[node] = {str(node.target)} if isinstance(value, Tensor) else set()
            continue
        names = set().union(*(owners.get(i, ()) for i in flow.inputs[node]))
        if names and node in flow.active:
            for name in names:
                found[name].add(node)
        elif names:
            owners[node] = names
    return found


def _sizes(node: fx.Node) -> str:
    shape = node.meta["val"].shape if isinstance(node.meta.get("val"), Tensor) else ()
    return f"[{', '.join(str(n) if isinstance(n, int) else 'batch' for n in shape)}]"
