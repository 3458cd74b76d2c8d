"""Recurrent layers: one axis for the hidden size of all layers and directions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.coupling.small import Net, Rule, check


def around(layer: nn.Module, inputs: int, outputs: int) -> dict[str, nn.Module]:
    return {"i": nn.Linear(7, inputs, bias=False), "r": layer, "o": nn.Linear(outputs, 3, bias=False)}


def sequence(m: Net, x: Tensor) -> Tensor:
    return m.o(m.r(m.i(x))[0])


def last_state(m: Net, x: Tensor) -> Tensor:
    return m.o(m.r(m.i(x))[1].sum(0))


def carried(m: Net, x: Tensor) -> Tensor:
    """A state that the program computes is handed in, and both states are read."""
    h = m.i(x)
    start = h.mean(0, keepdim=True).expand(2, -1, -1)
    _, (hidden, cell) = m.r(h, (start, start * 0.5))
    return m.o(hidden[-1] * cell[0])


def stepped(m: Net, x: Tensor) -> Tensor:
    steps, state = m.i(x).unbind(1), None
    for step in steps:
        state = m.r(step, state)
    return m.o(state[0] if isinstance(state, tuple) else state)


LSTM = "r.weight_ih_l0:0*4 r.weight_hh_l0:0*4 r.bias_ih_l0:0*4 r.bias_hh_l0:0*4 r.weight_hh_l0:1"
SECOND = LSTM.replace("l0", "l1") + " r.weight_ih_l1:1"
BACK = LSTM.replace("l0", "l0_reverse")
INTO = {"i.weight:0": "6 | i.weight:0 r.weight_ih_l0:1"}


CASES = (
    Rule("lstm", sequence, INTO | {"r.weight_ih_l0:0": f"10 | {LSTM} o.weight:1"},
         lambda: around(nn.LSTM(6, 10, batch_first=True), 6, 10), (2, 4, 7)),
    Rule("time first, two layers", sequence, INTO | {"r.weight_ih_l0:0": f"10 | {LSTM} {SECOND} o.weight:1"},
         lambda: around(nn.LSTM(6, 10, num_layers=2), 6, 10), (4, 2, 7)),
    Rule("both ways", sequence,
         {"i.weight:0": "6 | i.weight:0 r.weight_ih_l0:1 r.weight_ih_l0_reverse:1",
          "r.weight_ih_l0:0": f"10 | {LSTM} {BACK} o.weight:1*2"},
         lambda: around(nn.LSTM(6, 10, batch_first=True, bidirectional=True), 6, 20), (2, 4, 7)),
    Rule("projected", sequence,
         INTO | {"r.weight_hh_l0:1": "5 | r.weight_hh_l0:1 r.weight_hr_l0:0 o.weight:1"},
         lambda: around(nn.LSTM(6, 10, batch_first=True, proj_size=5), 6, 5), (2, 4, 7)),
    Rule("gru", last_state, INTO | {"r.weight_ih_l0:0": f"10 | {LSTM.replace('*4', '*3')} o.weight:1"},
         lambda: around(nn.GRU(6, 10, batch_first=True), 6, 10), (2, 4, 7)),
    Rule("without gates or biases", last_state,
         INTO | {"r.weight_ih_l0:0": "10 | r.weight_ih_l0:0 r.weight_hh_l0:0 r.weight_hh_l0:1 o.weight:1"},
         lambda: around(nn.RNN(6, 10, nonlinearity="relu", bias=False), 6, 10), (4, 2, 7)),
    Rule("states of the program's own", carried,
         {"i.weight:0": f"10 | i.weight:0 r.weight_ih_l0:1 {LSTM} {SECOND} o.weight:1"},
         lambda: around(nn.LSTM(10, 10, num_layers=2), 10, 10), (4, 2, 7)),
    *(Rule(f"step by step, {kind.__name__}", stepped,
           {"i.weight:0": "6 | i.weight:0 r.weight_ih:1",
            "r.weight_ih:0": f"10 | r.weight_ih:0{n} r.weight_hh:0{n} r.bias_ih:0{n} r.bias_hh:0{n} "
                             "r.weight_hh:1 o.weight:1"},
           lambda kind=kind: around(kind(6, 10), 6, 10), (2, 3, 7))  # type: ignore[misc]
      for kind, n in ((nn.LSTMCell, "*4"), (nn.GRUCell, "*3"), (nn.RNNCell, ""))),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
def test_groups_and_a_cut(case: Rule) -> None:
    check(case)


def test_the_cut_network_takes_sequences_of_its_examples_length_and_any_batch() -> None:
    from secateur import prune

    model = Net(sequence, **around(nn.LSTM(6, 16, batch_first=True, num_layers=2), 6, 16)).eval()
    small = prune(model, torch.randn(2, 5, 7), keep=0.5).model
    assert small(torch.randn(3, 5, 7)).shape == (3, 5, 3)
    assert small.get_parameter("r.weight_hh_l1").shape == (32, 8)
