"""Cost: what a cut model would cost, without cutting it."""

from secateur.cost.fitted import Fit, FittedLatency, FittedTerm, Reference
from secateur.cost.macs import Macs, layer_of, modules_with_weights
from secateur.cost.params import Params
from secateur.cost.record import BoundCost, Cost, Term, counted
from secateur.cost.tally import Tally

__all__ = [
    "BoundCost", "Cost", "Fit", "FittedLatency", "FittedTerm", "Macs", "Params", "Reference", "Tally", "Term",
    "counted", "layer_of", "modules_with_weights",
]  # fmt: skip
