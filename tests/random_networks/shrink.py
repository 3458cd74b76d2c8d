"""Makes a failing network smaller: fewer outputs, then every block left out that need not be there.

A smaller network is the old one with other outputs and with blocks skipped whose output has the shape of their
input, so its weights are the same and it is written down as the seed and two lists of numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from tests.random_networks.network import Grown, Network, needed
from tests.random_networks.scope import Made


def reduced(grown: Grown, outputs: Sequence[int] | None = None, skipped: Sequence[int] = ()) -> Grown:
    """The network with these values as its outputs and without these blocks; both counted in the original.

    Raises:
        ValueError: a block to be skipped changes the shape of its value.
    """
    old = grown.network
    value = {i: i for i in range(len(old.inputs))}
    specs, made = list(old.inputs), list[Made]()
    first = len(old.inputs)
    for k, m in enumerate(old.made):
        inputs = tuple(value[i] for i in m.inputs)
        if k in skipped:
            given = specs[inputs[0]]
            if len(m.outputs) != 1 or (m.outputs[0].layout, m.outputs[0].shape) != (
                given.layout,
                given.shape,
            ):
                raise ValueError(f"block {k} changes the shape of its value")
            value[first] = inputs[0]
        else:
            made.append(Made(m.block, inputs, m.outputs))
            for j, spec in enumerate(m.outputs):
                value[first + j] = len(specs)
                specs.append(spec)
        first += len(m.outputs)
    wanted = [value[i] for i in (old.outputs if outputs is None else outputs)]
    kept, wanted = needed(old.inputs, made, wanted)
    named = old.named and len(wanted) > 1
    return replace(grown, network=Network(old.inputs, kept, wanted, named, old.fixed).double().eval())


def shrink(grown: Grown, fails: Callable[[Grown], bool]) -> tuple[Grown, tuple[int, ...], tuple[int, ...]]:
    """The smallest network found that still fails, its outputs and the blocks left out."""
    outputs, skipped = tuple(grown.network.outputs), tuple[int, ...]()

    def still(wanted: tuple[int, ...], without: tuple[int, ...]) -> bool:
        try:
            return fails(reduced(grown, wanted, without))
        except ValueError:
            return False

    count = len(grown.network.inputs) + sum(len(m.outputs) for m in grown.network.made)
    for end in range(len(grown.network.inputs), count):
        if still((end,), ()):
            outputs = (end,)
            break
    for k in reversed(range(len(grown.network.made))):
        if still(outputs, (*skipped, k)):
            skipped = (*skipped, k)
    return reduced(grown, outputs, skipped), outputs, skipped
