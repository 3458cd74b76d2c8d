"""Products with a stack of matrices, one for each expert, over rows that are sorted by expert.

Which rows an expert gets follows from values, so experts and rows are fixed; what goes in and out of each is not.
The operator of transformers is named here without importing it.
"""

from __future__ import annotations

from secateur.coupling.facts import Axes, Facts
from secateur.coupling.rules.shapes import lock
from secateur.coupling.values import Arguments, Value

_EXPERTS = "its positions are experts, chosen by index for each row"
_ROWS = "its rows are handed out to experts"


def grouped(f: Facts, a: Arguments) -> Axes | list[Axes]:
    """``rows [S, K]`` by ``weight [E, K, N]``, the rows up to ``offs[e]`` by matrix e; other forms are left alone."""
    names = ("input", "weight") if "weight" in a.values else ("self", "mat2")
    rows, weight = (a.get(name) for name in names)
    if (len(rows), len(weight)) != (2, 3) or not isinstance(a.get("offs"), Value):
        return lock(f, a)
    f.contract(names[0], 1, rows[1], weight[1])
    f.pin(rows[0], _ROWS)
    f.pin(weight[0], _EXPERTS)
    f.pin(a.offs[0], _EXPERTS)
    out = weight[2]
    if a.get("bias") is not None:
        f.pin(a.bias[0], _EXPERTS)
        out = f.same(out, a.bias[1])
    return (f.pinned(a.shape[0]), out)


TABLE = dict.fromkeys(("aten::_grouped_mm", "transformers::grouped_mm_fallback"), grouped)
