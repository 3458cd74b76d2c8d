"""Cost: what a cut model would cost, without cutting it."""

from secateur.cost.macs import Macs, layer_of, modules_with_weights
from secateur.cost.params import Params
from secateur.cost.record import BoundCost, Cost, Term

__all__ = ["BoundCost", "Cost", "Macs", "Params", "Term", "layer_of", "modules_with_weights"]
