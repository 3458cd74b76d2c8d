"""The zoo's golden tables: groups, units and multiplicities as counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from secateur.errors import UnknownName
from tests.zoo import ZOO, golden, ready, written


@pytest.mark.parametrize("name", ZOO)
def test_groups(name: str) -> None:
    assert {g.name: written(g) for g in ready(name)[1]} == golden(ZOO[name].groups)


@pytest.mark.parametrize("name", ZOO)
def test_positions_of_a_member_are_each_taken_once(name: str) -> None:
    for group in ready(name)[1]:
        for member in group.members:
            flat = member.positions.reshape(-1)
            assert len(np.unique(flat)) == len(flat)
            assert (np.diff(member.positions, axis=1) > 0).all()


@pytest.mark.parametrize("name", [n for n, c in ZOO.items() if c.locks])
def test_locks_and_their_reasons(name: str) -> None:
    locked = {f"{lock.param}:{lock.axis}": lock for lock in ready(name)[1].locked}
    for axis, words in ZOO[name].locks.items():
        lock = locked[axis]
        assert words in f"{lock.reason} {lock.operator}"
        assert lock.positions == lock.size > 1
        assert lock.remedy


def test_a_lock_names_the_line_of_the_users_code() -> None:
    lock = next(lock for lock in ready("unknown")[1].locked if lock.param == "fc2.weight" and lock.axis == 0)
    assert lock.operator == "aten.as_strided.default"
    assert "other.py:" in lock.source and "as_strided" in lock.source
    assert "rules={'aten::as_strided': rule}" in lock.remedy


def test_every_axis_is_in_a_group_or_locked() -> None:
    for name in ZOO:
        groups = ready(name)[1]
        known = {(m.param, m.axis) for g in groups for m in g.members}
        known |= {(lock.param, lock.axis) for lock in groups.locked}
        for param in groups.graph.state_names():
            shape = groups.graph.tensor(param).shape
            # Kernels' axes stand in neither list: they are no choice anybody has.
            axes = [i for i, n in enumerate(shape) if n > 1 and not (i > 1 and "conv" in param)]
            missing = [(param, i) for i in axes if (param, i) not in known]
            if missing:
                assert all(i > 1 for _, i in missing), (name, missing)


def test_operators_without_a_rule_are_counted() -> None:
    assert {n: dict(ready(n)[1].unknown) for n in ZOO if ready(n)[1].unknown} == {
        "unknown": {"aten.as_strided.default": 1}
    }


def test_share_that_is_prunable() -> None:
    # fc1 and fc3 with their biases, and what reads them, can go; fc2's bias cannot.
    groups = ready("unknown")[1]
    free = 16 * 12 + 12 + 12 * 10 + 6 * 8 + 8 + 8 * 5
    assert groups.prunable_share == pytest.approx(free / ZOO["unknown"].params)


def test_unknown_group_name() -> None:
    groups = ready("plain")[1]
    assert groups["conv1.weight:0"].units == 8
    with pytest.raises(UnknownName, match=r"'conv9'.*there are 2, the first 'conv1\.weight:0'"):
        groups["conv9"]
