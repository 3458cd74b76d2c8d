"""Properties of cutting: the identity, equality with the masked original, two cuts in a row."""

from __future__ import annotations

import numpy as np
import torch
from torch import fx

from secateur.coupling import LITERAL, find_groups
from secateur.graph import trace
from secateur.planning import Plan
from secateur.surgery import cut_groups
from tests.random_networks.network import batch_is_two
from tests.random_networks.oracle import masked
from tests.random_networks.subject import Broken, Subject, apart, random_plan, run

TOLERANCE = 1e-9
ROUNDED_TWICE = 4 * torch.finfo(torch.float64).eps


def identity(s: Subject, rng: np.random.Generator) -> None:
    """Keeping everything changes nothing at all."""
    result = cut_groups(s.groups, Plan(s.groups.graph.fingerprint, {}))
    if result.verification.max_relative_error != 0.0:
        raise Broken("identity", f"error {result.verification.max_relative_error}")
    own = s.groups.graph.module.state_dict()
    if not all(torch.equal(own[n], t) for n, t in result.module.state_dict().items()):
        raise Broken("identity", "a tensor changed")
    inputs = s.network.examples(3, seed=7)
    error = apart(run(result.module, inputs), run(s.network, inputs))
    if error > 1e-10:
        raise Broken("identity", f"the outputs differ from the user's module by {error:.2g}")


def equals_masked(s: Subject, rng: np.random.Generator) -> None:
    """A random cut equals the masked original in lockstep, and the user's own module as the oracle masks it."""
    for least, most in ((0.3, 0.5), (0.0, 1.0)):
        plan = random_plan(s.groups, rng, least, most)
        result = cut_groups(s.groups, plan)
        s.error = max(s.error, result.verification.max_relative_error)
        if result.verification.max_relative_error > TOLERANCE:
            raise Broken("lockstep", f"error {result.verification.max_relative_error:.2g}")
        if Plan.from_json(plan.to_json()) != plan:
            raise Broken("json", "the plan that was read is another")
        inputs = s.network.examples(3, seed=int(rng.integers(1 << 30)))
        found = run(result.module, inputs)
        expected = masked(s.network, plan)
        if expected is not None:
            s.judged = True
            error = apart(found, run(expected, inputs))
            if error > 1e-7:
                raise Broken("oracle", f"the cut differs from the user's masked module by {error:.2g}")


def insisting(module: fx.GraphModule, s: Subject) -> fx.GraphModule:
    """A cut program that insists on the batch that its network insists on."""
    if s.network.fixed:
        given = module.graph.find_nodes(op="placeholder")
        with module.graph.inserting_after(given[-1]):
            module.graph.call_function(batch_is_two, tuple(given))
        module.recompile()
    return module


def two_steps(s: Subject, rng: np.random.Generator) -> None:
    """A plan on the result of a plan, put together, gives in one cut what the two gave in a row.

    Bit by bit, except for weights that take the scale of an attention: that factor is rounded twice in a row, once
    at once.
    """
    first = random_plan(s.groups, rng)
    once = cut_groups(s.groups, first)
    again = find_groups(trace(insisting(once.module, s), s.network.examples()))
    second = random_plan(again, rng)
    twice = cut_groups(again, second)
    try:
        whole = cut_groups(s.groups, first.then(second))
    except Exception as error:
        raise Broken("two steps", f"{type(error).__name__}: {error}") from error
    scaled = {n for c in (once, twice, whole) for n in c.prepared.scaled}
    mine, theirs = whole.module.state_dict(), twice.module.state_dict()
    for name in theirs:
        if name.startswith(LITERAL):  # a list of positions that a rewrite wrote, under a name that was free
            continue
        rtol = ROUNDED_TWICE if name in scaled else 0.0
        if name not in mine or mine[name].shape != theirs[name].shape:
            raise Broken("two steps", f"'{name}' is not there, or of another shape")
        if not torch.allclose(mine[name], theirs[name], rtol=rtol, atol=0.0):
            raise Broken("two steps", f"'{name}' differs by {apart([mine[name]], [theirs[name]]):.2g}")
    inputs = s.network.examples(3, seed=5)
    error = apart(run(whole.module, inputs), run(twice.module, inputs))
    if error > TOLERANCE:
        raise Broken("two steps", f"the outputs differ by {error:.2g}")
