"""A family of plans over many budgets from one analysis: :func:`sweep`."""

from secateur.pipeline.family.asked import Asked
from secateur.pipeline.family.flow import sweep
from secateur.pipeline.family.record import Measured, Point, Sweep

__all__ = ["Asked", "Measured", "Point", "Sweep", "sweep"]
