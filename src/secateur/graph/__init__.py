"""Trace: a model and example inputs become a :class:`Graph`."""

from secateur.graph.modes import MODE_FUNCTIONS
from secateur.graph.normalise import op_name
from secateur.graph.outputs import Output, outputs
from secateur.graph.program import decode, encode
from secateur.graph.record import Graph, fetch, hint, shape_of
from secateur.graph.trace import Dynamic, split_inputs, trace

__all__ = [
    "MODE_FUNCTIONS",
    "Dynamic",
    "Graph",
    "Output",
    "decode",
    "encode",
    "fetch",
    "hint",
    "op_name",
    "outputs",
    "shape_of",
    "split_inputs",
    "trace",
]
