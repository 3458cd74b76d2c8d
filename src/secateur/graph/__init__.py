"""Trace: a model and example inputs become a :class:`Graph`."""

from secateur.graph.flow import Flow, is_tensor
from secateur.graph.modes import MODE_FUNCTIONS
from secateur.graph.normalise import op_name
from secateur.graph.program import decode, encode
from secateur.graph.record import Graph, fetch, hint, shape_of
from secateur.graph.trace import Dynamic, split_inputs, trace

__all__ = [
    "MODE_FUNCTIONS",
    "Dynamic",
    "Flow",
    "Graph",
    "decode",
    "encode",
    "fetch",
    "hint",
    "is_tensor",
    "op_name",
    "shape_of",
    "split_inputs",
    "trace",
]
