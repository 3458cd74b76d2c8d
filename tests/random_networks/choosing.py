"""Properties of choosing: scores follow the units, budgets are met, costs are what a cut model has."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import fx, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from secateur.cost import Macs, Params
from secateur.errors import Infeasible
from secateur.planning import Budget, allocate
from secateur.scoring import Magnitude, Random, score
from secateur.surgery import cut_groups
from tests.random_networks.oracle import plain_attention
from tests.random_networks.subject import Broken, Subject, apart, run


def permuting(s: Subject, rng: np.random.Generator) -> None:
    """Units that change places in the model change places in the scores, and the model computes what it did."""
    found = [g for g in s.groups if g.name not in s.groups.ordered]
    if not found or s.groups.graph.folded:  # what a weight is computed from has no place in a group
        return
    group = found[int(rng.integers(len(found)))]
    order = rng.permutation(group.units)
    network = copy.deepcopy(s.network)
    tensors = network.state_dict(keep_vars=True)
    for member in group.members:
        if member.param not in tensors:
            return  # a constant of the program, which a user's module holds nowhere
        tensor = tensors[member.param]
        index = np.arange(tensor.shape[member.axis])
        index[member.positions.reshape(-1)] = member.positions[order].reshape(-1)
        with torch.no_grad():
            tensor.copy_(tensor.index_select(member.axis, torch.from_numpy(index)))
    inputs = s.network.examples(3, seed=9)
    error = apart(run(network, inputs), run(s.network, inputs))
    if error > 1e-7:
        raise Broken("permuting", f"the units of {group.name} are not alike: outputs differ by {error:.2g}")
    before = score(s.network, s.groups, Magnitude())
    after = score(network, s.groups, Magnitude())  # what the groups are does not depend on the weights
    for name, values in before.values.items():
        expected = values[order] if name == group.name else values
        if not np.allclose(after.values[name], expected, rtol=1e-9):
            raise Broken("permuting", f"the scores of {name} did not follow {group.name}")


def budgets(s: Subject, rng: np.random.Generator) -> None:
    """A budget is met, or the nearest that can be met is named, and then is met."""
    if not len(s.groups):
        return
    kind = ("params", "macs")[int(rng.integers(2))]
    cost = Params(s.groups.graph) if kind == "params" else Macs(s.groups.graph)
    bound = cost.bind(s.groups)
    dense = bound.of(np.ones(s.groups.coupling.facts.size, dtype=bool))
    if not dense:
        return
    share = float(rng.uniform(0.1, 0.95))
    scores = score(s.network, s.groups, Random(int(rng.integers(1000))))
    try:
        plan = allocate(scores, [cost], Budget(**{kind: f"{share}x"}))
    except Infeasible as error:
        assert error.nearest is not None
        if error.nearest < share - 1e-9:
            raise Broken("budgets", f"{share} was refused though {error.nearest} can be had") from error
        share = min(error.nearest * (1 + 1e-6), 1.0)
        plan = allocate(scores, [cost], Budget(**{kind: f"{share:.9f}x"}))
    small = cut_groups(s.groups, plan).module
    found = parameters(small) if kind == "params" else macs(small, s)
    if found is not None and found > share * dense * (1 + 1e-5):
        raise Broken("budgets", f"{kind}={share:.3f}x of {dense:.0f} was asked, the cut has {found:.0f}")


def costs(s: Subject, rng: np.random.Generator) -> None:
    """Parameters and multiply-adds are what counting the cut model gives."""
    from tests.random_networks.subject import random_plan

    plan = random_plan(s.groups, rng)
    from secateur.planning import dead_atoms

    alive = s.groups.coupling.alive(dead_atoms(s.groups, plan))
    small = cut_groups(s.groups, plan).module
    found = {"params": parameters(small), "macs": macs(small, s)}
    for cost in (Params(s.groups.graph), Macs(s.groups.graph)):
        said = cost.bind(s.groups).of(alive)
        if found[cost.kind] is not None and said != found[cost.kind]:
            raise Broken("costs", f"{cost.kind}: {said:.1f} was said, {found[cost.kind]:.1f} counted")


def parameters(module: nn.Module) -> int:
    """Parameters, each once."""
    return sum(p.numel() for p in module.parameters())


def macs(module: fx.GraphModule, s: Subject) -> float | None:
    """Multiply-adds of one sample as torch counts them; nothing where it does not count them as products.

    Bilinear layers, and einsums with an axis of one, are sums of products by other names.
    """
    for node in module.graph.nodes:
        name = str(node.target)
        if "bilinear.default" in name or ("einsum" in name and _thin(module, s, node)):
            return None
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.mv: _vector})
    with counter, sdpa_kernel(SDPBackend.MATH), plain_attention(), torch.no_grad():
        module(*s.network.examples())
    return counter.get_total_flops() / 2 / 2  # an addition with each multiplication, two samples


def _thin(module: fx.GraphModule, s: Subject, node: fx.Node) -> bool:
    """Whether an operand of a call has an axis of one."""
    seen: list[bool] = []

    class Shapes(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            if n is node:
                operands = [self.env[o] for o in n.all_input_nodes]
                seen.append(any(1 in o.shape for o in operands if isinstance(o, torch.Tensor)))
            return super().run_node(n)

    with torch.no_grad():
        Shapes(module).run(*s.network.examples())
    return any(seen)


def _vector(matrix: tuple[int, int], vector: tuple[int], **_: object) -> int:
    """What the counter leaves out: a matrix by a vector."""
    return 2 * matrix[0] * matrix[1]
