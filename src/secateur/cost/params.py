"""Number of parameters."""

from __future__ import annotations

from math import prod

import torch

from secateur.cost.record import Cost, Term
from secateur.coupling import Groups


class Params(Cost):
    """Parameters that the program uses; tied ones count once, buffers do not count."""

    kind = "params"

    def terms(self, groups: Groups) -> list[Term]:
        """One term for each parameter; its layer is its name without the last part."""
        out, seen = [], set()
        for name, axes in groups.coupling.state_axes.items():
            tensor = groups.graph.tensor(name)
            if not isinstance(tensor, torch.nn.Parameter) or id(tensor) in seen:
                continue
            seen.add(id(tensor))
            free = tuple(a for a in axes if a.any())
            fixed = prod(len(a) for a in axes if not a.any())
            out.append(Term(name.rpartition(".")[0] or name, float(fixed), free, name))
        return out
