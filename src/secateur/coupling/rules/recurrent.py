"""Recurrent layers: a hidden unit stands at one place of every gate, of the state, and of what reads the state.

One tensor holds the states of all layers and both directions, so that these share their hidden units. What is
removed from a state is zeroed where it is read: in the columns of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence

from secateur.coupling.facts import Axes, Axis, Facts
from secateur.coupling.values import Arguments, Value, op_name

_GATES = {"lstm": 4, "gru": 3, "rnn": 1}
_PROJECTED = "a projection is told by its size alone, so that the hidden size must not come down to it"


def recurrent(f: Facts, a: Arguments) -> list[Axes]:
    """``input [T, B, I]`` or ``[B, T, I]``, states ``[layers x directions, B, H]``, weights of every layer in a row.

    For each layer and direction: ``[gates x H, I]``, ``[gates x H, H]``, two biases ``[gates x H]`` if any, and for
    an LSTM with a projection to P, which then is the state that is read, ``[P, H]``.
    """
    states = _states(a)
    state, cell = states[0][2], states[-1][2]
    directions = 2 if a.bidirectional else 1
    params: list[Value] = a.params
    each = len(params) // (int(a.num_layers) * directions)
    projected = each in (3, 5)
    read = a.input[2]
    f.contract("input", 2, read)
    if projected:
        f.pin(cell, _PROJECTED)
        cell = f.pinned(len(cell))
    for start in range(0, len(params), each):
        own = params[start : start + each]
        cell = _gated(f, a, cell, own[: each - projected])
        if projected:
            state = f.same(state, own[-1][0])
            _read(f, params, start + each - 1, cell)
        else:
            state = cell = f.same(state, cell)
        _read(f, params, start + 1, state)
        if start < each * directions:  # masked as an argument
            f.consumed.append(own[0][1])
            f.same(own[0][1], a.input[2])
        else:
            _read(f, params, start, read)
        if start // each % directions == directions - 1:
            read = f.merge([f.pinned(directions), state])
    time = 1 if a.batch_first else 0
    f.pin(a.input[time], "the recurrence runs along it")
    batch = f.same(a.input[1 - time], *(s[1] for s in states))
    for s in states:
        f.pin(s[0], "its positions are the layers and directions of a recurrent network")
    rows = tuple(f.pinned(n) if i == time else batch for i, n in enumerate(a.shape[:2]))
    layers = f.pinned(a.outputs[1][0])
    return [(*rows, read), *((layers, batch, s) for s in (state, cell)[: len(states)])]


def step(f: Facts, a: Arguments) -> Axes | list[Axes]:
    """One step of a cell: ``input [B, I]``, states ``[B, H]``, ``w_ih [gates x H, I]``, ``w_hh [gates x H, H]``."""
    states = _states(a)
    stacked = [a.get(name) for name in ("w_ih", "w_hh", "b_ih", "b_hh") if a.get(name) is not None]
    hidden = _gated(f, a, f.same(*(s[-1] for s in states)), stacked)
    f.contract("input", len(a.input) - 1, a.input[-1], a.w_ih[1])
    f.contract("hx.0" if isinstance(a.hx, list) else "hx", len(states[0]) - 1, hidden, a.w_hh[1])
    out = (*a.input.axes[:-1], hidden)
    return [out] * len(states) if isinstance(a.hx, list) else out


def _states(a: Arguments) -> list[Value]:
    return a.hx if isinstance(a.hx, list) else [a.hx]


def _gated(f: Facts, a: Arguments, hidden: Axis, stacked: Sequence[Value]) -> Axis:
    """Ties the first axes, ``gates x hidden``, to the hidden units."""
    gates = _GATES[op_name(a.node).removeprefix("aten::").partition("_")[0]]
    for value in stacked:
        gate, inner = f.split(value[0], (gates, len(value[0]) // gates))
        f.pin(gate, "its positions are the gates of a recurrent layer")
        hidden = f.same(hidden, inner)
    return hidden


def _read(f: Facts, params: Sequence[Value], position: int, axis: Axis) -> None:
    """What is read along the columns of a weight, and masked there."""
    columns = params[position][1]
    f.same(columns, axis)
    f.contract(f"params.{position}", 1, columns, columns)


TABLE = {
    **dict.fromkeys(("aten::lstm", "aten::gru", "aten::rnn_tanh", "aten::rnn_relu"), recurrent),
    **dict.fromkeys(
        ("aten::lstm_cell", "aten::gru_cell", "aten::rnn_tanh_cell", "aten::rnn_relu_cell"), step
    ),
}
