"""What must hold of every network: all properties by name, checked on one traced network."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from tests.random_networks.choosing import budgets, costs, permuting
from tests.random_networks.cutting import equals_masked, identity, two_steps
from tests.random_networks.network import Grown
from tests.random_networks.subject import Broken, Subject, subject

PROPERTIES: dict[str, Callable[[Subject, np.random.Generator], None]] = {
    "identity": identity,
    "equals_masked": equals_masked,
    "two_steps": two_steps,
    "permuting": permuting,
    "budgets": budgets,
    "costs": costs,
}


def check(grown: Grown, properties: Iterable[str] = tuple(PROPERTIES)) -> Subject:
    """Checks a network against some of the properties.

    Raises:
        Broken: naming the property, or the error that was raised on the way.
    """
    try:
        s = subject(grown)
    except Exception as error:
        raise Broken(type(error).__name__, _first_line(error)) from error
    for k, name in enumerate(properties):
        try:
            PROPERTIES[name](s, np.random.default_rng([grown.seed, k]))
        except Broken:
            raise
        except Exception as error:
            raise Broken(f"{name}, {type(error).__name__}", _first_line(error)) from error
    return s


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:300]
