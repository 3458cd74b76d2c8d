"""Trace: a model and example inputs become a :class:`Graph`."""

from secateur.graph.flow import Flow, is_tensor
from secateur.graph.modes import MODE_FUNCTIONS
from secateur.graph.normalise import op_name
from secateur.graph.numbers import Attribute, Compound, Length, evaluate, leaves
from secateur.graph.outputs import Output, outputs
from secateur.graph.probe import Probe, Use, is_record, probe, rebuilt
from secateur.graph.program import decode, encode
from secateur.graph.record import Graph, bind, fetch, flat_arguments, hint, shape_of
from secateur.graph.shapes import as_shapes
from secateur.graph.trace import Dynamic, fingerprint_of, split_inputs, trace, two_samples

__all__ = [
    "MODE_FUNCTIONS", "Attribute", "Compound", "Dynamic", "Flow", "Graph", "Length", "Output", "Probe", "Use",
    "as_shapes", "bind", "decode", "encode", "evaluate", "fetch", "fingerprint_of", "flat_arguments", "hint",
    "is_record", "is_tensor", "leaves", "op_name", "outputs", "probe", "rebuilt", "shape_of", "split_inputs", "trace",
    "two_samples",
]  # fmt: skip
