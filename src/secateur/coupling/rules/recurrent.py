"""Recurrent layers: a hidden unit stands at one place of every gate, of the state, and of what reads the state.

One tensor holds the states of all layers and both directions, so that these share their hidden units. What is
removed from a state is zeroed where it is read: in the columns of the weights.
"""

from __future__ import annotations

from secateur.coupling.facts import Axes, Axis, Facts
from secateur.coupling.values import Arguments, Value, op_name

_TIME = "the recurrence runs along it"
_GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def _gates(a: Arguments) -> int:
    return _GATES[op_name(a.node).removeprefix("aten::").partition("_")[0]]


def _hidden(f: Facts, gates: int, hidden: Axis, *stacked: Axis) -> Axis:
    """Ties axes of ``gates x hidden`` to the hidden units."""
    for axis in stacked:
        gate, inner = f.split(axis, (gates, len(axis) // gates))
        f.pin(gate, "its positions are the gates of a recurrent layer")
        hidden = f.same(hidden, inner)
    return hidden


def recurrent(f: Facts, a: Arguments) -> list[Axes]:
    """``input [T, B, I]`` or ``[B, T, I]``, states ``[layers x directions, B, H]``, weights of every layer in a row.

    For each layer and direction: ``[gates x H, I]``, ``[gates x H, H]``, two biases ``[gates x H]`` if any, and for
    an LSTM with a projection to P, which then is the state that is read, ``[P, H]``.
    """
    packed = "batch_sizes" in a.values
    x: Value = a.data if packed else a.input
    states: list[Value] = a.hx if isinstance(a.hx, list) else [a.hx]
    cell, state = states[-1][2], states[0][2]
    projected = len(states) == 2 and len(cell) != len(state)
    directions = 2 if a.bidirectional else 1
    params: list[Value] = a.params
    each = len(params) // (int(a.num_layers) * directions)
    gates, read = _gates(a), x[-1]
    f.contract("data" if packed else "input", len(x) - 1, read)
    for layer in range(int(a.num_layers)):
        for start in range(layer * directions * each, (layer + 1) * directions * each, each):
            own = params[start : start + each]
            stacked = own[:-1] if projected else own
            cell = _hidden(f, gates, cell, *(p[0] for p in stacked))
            reads: list[tuple[int, Axis]] = [(0, read), (1, state)]
            if projected:
                state = f.same(state, own[-1][0])
                reads.append((each - 1, cell))
            else:
                state = cell = f.same(cell, state)
            for offset, axis in reads:
                f.same(own[offset][1], axis)
                f.consumed.append(own[offset][1])
                if (layer, offset) != (0, 0):  # the first layer's input is masked as an argument
                    f.contract(f"params.{start + offset}", 1, own[offset][1])
        read = f.merge([f.pinned(directions), state])
    return _outputs(f, a, x, read, [state, cell][: len(states)], packed)


def _outputs(
    f: Facts, a: Arguments, x: Value, out: Axis, states: list[Axis], packed: bool
) -> list[Axes]:
    first, count = states[0], f.pinned(a.outputs[1][0])
    batch = f.pinned(a.outputs[1][1])
    if packed:
        f.pin(x[0], _TIME)
        f.pin(a.batch_sizes[0], _TIME)
        rows: Axes = (f.pinned(len(x[0])),)
    else:
        time = 1 if a.batch_first else 0
        f.pin(x[time], _TIME)
        batch = x[1 - time]
        rows = (batch, f.pinned(len(x[1]))) if a.batch_first else (f.pinned(len(x[0])), batch)
    del first
    return [(*rows, out), *((count, batch, s) for s in states)]


def cell(f: Facts, a: Arguments) -> Axes | list[Axes]:
    """One step: ``input [B, I]``, states ``[B, H]``, ``w_ih [gates x H, I]``, ``w_hh [gates x H, H]``."""
    several = isinstance(a.hx, list)
    states: list[Value] = a.hx if several else [a.hx]
    biases = [a.get(name)[0] for name in ("b_ih", "b_hh") if a.get(name) is not None]
    hidden = f.same(*(s[-1] for s in states))
    hidden = _hidden(f, _gates(a), hidden, a.w_ih[0], a.w_hh[0], *biases)
    f.contract("input", len(a.input) - 1, a.input[-1], a.w_ih[1])
    f.same(hidden, a.w_hh[1])
    f.contract("hx.0" if several else "hx", len(states[0]) - 1, states[0][-1], a.w_hh[1])
    out = (*states[0].axes[:-1], hidden)
    return [out] * len(states) if several else out


def pack(f: Facts, a: Arguments) -> list[Axes]:
    """``[T, B, F]`` or ``[B, T, F]`` and lengths to the rows of all sequences, ``[N, F]``, and their number at each time."""
    f.pin(a.input[0], _TIME)
    f.pin(a.input[1], _TIME)
    data, sizes = a.outputs
    return [(f.pinned(data[0]), *a.input.axes[2:]), (f.pinned(sizes[0]),)]


def unpack(f: Facts, a: Arguments) -> list[Axes]:
    """The reverse of :func:`pack`."""
    f.pin(a.data[0], _TIME)
    padded, lengths = a.outputs
    return [(f.pinned(padded[0]), f.pinned(padded[1]), *a.data.axes[1:]), (f.pinned(lengths[0]),)]


TABLE = {
    **dict.fromkeys(("aten::lstm", "aten::gru", "aten::rnn_tanh", "aten::rnn_relu"), recurrent),
    **dict.fromkeys(("aten::lstm_cell", "aten::gru_cell", "aten::rnn_tanh_cell", "aten::rnn_relu_cell"), cell),
    "aten::_pack_padded_sequence": pack,
    "aten::_pad_packed_sequence": unpack,
}
