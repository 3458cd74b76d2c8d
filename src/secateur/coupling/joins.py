"""Where layers of a group are tied together: the additions, products and attentions in which their outputs meet.

What a layer does with its own parameters (a bias, a norm's weight) is left out: it ties nothing that anybody would
think of as apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor, fx

from secateur.coupling.couple import Coupling
from secateur.coupling.locks import layer_path, source_of


@dataclass(frozen=True)
class Join:
    """Calls of one operator at one line that tie activations of a group.

    Args:
        operator: as the exporter writes it.
        source: file and line of the user's code, else ``"-"``.
        layers: paths of the modules whose forward pass makes the calls, in order.
    """

    operator: str
    source: str
    layers: tuple[str, ...]


def joins(coupling: Coupling, atoms: np.ndarray) -> list[Join]:
    """The calls in which activations that these atoms stand in meet, in the order of the program."""
    solution = coupling.solution
    mine = np.zeros(coupling.facts.size, dtype=bool)
    mine[atoms] = True
    wanted = set(atoms.tolist())
    mine[[c for c, monomial in solution.monomials.items() if not wanted.isdisjoint(monomial)]] = True
    found: dict[tuple[str, str], dict[fx.Node, str]] = {}
    for first, _, node in coupling.facts.ties:
        if node is not None and _meets(node) and mine[solution.class_of[first]].any():
            calls = found.setdefault((str(node.target), source_of(node)), {})
            calls.setdefault(node, layer_path(node))
    return [Join(*key, tuple(calls.values())) for key, calls in found.items()]


def _meets(node: fx.Node) -> bool:
    """Whether a call takes two activations."""
    return sum(n.op != "get_attr" and isinstance(n.meta.get("val"), Tensor) for n in node.all_input_nodes) > 1
