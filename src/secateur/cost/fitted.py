"""Latency as a sum of products of axis lengths, fitted to measurements.

What an operator takes follows the lengths that its work is made of, rounded up to what the runtime computes in blocks
of: ``a + b * in + c * out + d * in * out`` for a matrix product. Such a sum is a cost like any other that is counted,
so the same solvers spend it. Lengths are named by the parameter or the value that has them, so that a fit made on the
dense model prices what was cut from it, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import fx

from secateur.cost.record import Cost, Term
from secateur.coupling import Axis, Groups
from secateur.errors import CorruptFile
from secateur.graph import Graph

Reference = tuple[str, int, int]  # a parameter or a call of the program, which of its outputs, which axis


@dataclass(frozen=True)
class FittedTerm:
    """``constant * product of lengths``, in milliseconds.

    Args:
        node: the runtime's operator.
        constant: milliseconds for each unit of the product.
        lengths: the axes that it is the product of.
        quanta: what each length is rounded up to a multiple of; empty for lengths as they are.
        ragged: whether only lengths count that are no multiple of it.
    """

    node: str
    constant: float
    lengths: tuple[Reference, ...]
    quanta: tuple[int, ...] = ()
    ragged: bool = False


@dataclass(frozen=True)
class Fit:
    """What a model's latency is made of, in one runtime and dtype.

    Args:
        terms: their sum is the latency in milliseconds.
        median_error, p90_error: relative errors of predictions for networks that were left out of the fit.
        networks: how many networks were measured.
        about: runtime, version, dtype, threads, device and batch.
    """

    terms: tuple[FittedTerm, ...]
    median_error: float
    p90_error: float
    networks: int
    about: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The fit as plain data."""
        return {
            "about": dict(self.about),
            "networks": self.networks,
            "median_error": self.median_error,
            "p90_error": self.p90_error,
            "terms": [
                [t.node, t.constant, [list(r) for r in t.lengths], list(t.quanta), t.ragged]
                for t in self.terms
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Fit:
        """The inverse of :meth:`to_json`.

        Raises:
            CorruptFile: the data is not a fit.
        """
        try:
            terms = tuple(
                FittedTerm(
                    str(node),
                    float(constant),
                    _references(lengths),
                    tuple(map(int, quanta)),
                    bool(ragged),
                )
                for node, constant, lengths, quanta, ragged in data["terms"]
            )
            errors = float(data["median_error"]), float(data["p90_error"])
            return cls(terms, *errors, int(data["networks"]), dict(data["about"]))
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptFile(f"this is no latency fit: {error}") from error


class FittedLatency(Cost):
    """Latency in milliseconds of any cut of a program, from a fit made on it or on what it was cut from."""

    kind = "latency"

    def __init__(self, graph: Graph, fit: Fit) -> None:
        super().__init__(graph)
        self.fit = fit

    def terms(self, groups: Groups) -> list[Term]:
        """The fit's terms over the program's own axes. An operator that names an axis which is gone is gone itself; one
        that names what a removed block alone reads goes with that."""
        nodes = {node.name: node for node in groups.graph.nodes}
        removal = groups.removal
        missing: set[str] = set()
        sources: dict[str, fx.Node | str] = {}
        axes = {r: axis_of(groups, nodes, r) for term in self.fit.terms for r in term.lengths}
        for term in self.fit.terms:
            for reference in term.lengths:
                name = reference[0]
                if axes[reference] is None:
                    missing.add(term.node)
                elif name in removal.state or nodes.get(name) in removal.gone:
                    sources[term.node] = nodes.get(name, name)
        return [
            Term(
                term.node,
                term.constant,
                tuple(axis for r in term.lengths if (axis := axes[r]) is not None),
                sources.get(term.node, ""),
                term.quanta,
                term.ragged,
            )
            for term in self.fit.terms
            if term.node not in missing
        ]


def _references(lengths: Iterable[Any]) -> tuple[Reference, ...]:
    return tuple((str(name), int(output), int(axis)) for name, output, axis in lengths)


def axis_of(groups: Groups, nodes: Mapping[str, Any], reference: Reference) -> Axis | None:
    """The axis that a reference means, or None where the program has it no more."""
    name, output, axis = reference
    if name in groups.coupling.state_axes:
        return groups.coupling.state_axes[name][axis]
    value = groups.coupling.values[nodes[name]] if name in nodes else None
    value = value[output] if isinstance(value, list) else value
    return None if value is None or axis >= len(value.axes) else value.axes[axis]
