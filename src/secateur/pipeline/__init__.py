"""The whole flow: :func:`compress` goes from a model and a budget to a verdict."""

from secateur.pipeline.analysis import analysis, locked
from secateur.pipeline.flow import Run, compress
from secateur.pipeline.layers import layers

__all__ = ["Run", "analysis", "compress", "layers", "locked"]
