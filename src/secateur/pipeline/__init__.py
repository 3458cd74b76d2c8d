"""The whole flow: :func:`compress` goes from a model and a budget to a verdict, :func:`sweep` over many budgets."""

from secateur.pipeline.analysis import analysis, locked
from secateur.pipeline.family import Asked, Measured, Point, Sweep, sweep
from secateur.pipeline.flow import Run, compress
from secateur.pipeline.forecast import training_hours
from secateur.pipeline.layers import layers

__all__ = [
    "Asked", "Measured", "Point", "Run", "Sweep", "analysis", "compress", "layers", "locked", "sweep",
    "training_hours",
]  # fmt: skip
