"""Cut: a :class:`~secateur.planning.Plan` becomes a smaller model, verified."""

from secateur.surgery.cut import Cut, cut, cut_groups
from secateur.surgery.emit import Emitted, emit
from secateur.surgery.sizes import Sizes
from secateur.surgery.verify import Verification, relative_error, verify

__all__ = ["Cut", "Emitted", "Sizes", "Verification", "cut", "cut_groups", "emit", "relative_error", "verify"]
