"""Trace: a model and example inputs become a :class:`Graph`."""

from secateur.graph.modes import MODE_FUNCTIONS
from secateur.graph.normalise import op_name
from secateur.graph.numbers import Attribute, Compound, Length, evaluate, leaves
from secateur.graph.outputs import Output, outputs
from secateur.graph.probe import Probe, Use, is_record, probe, rebuilt
from secateur.graph.program import decode, encode
from secateur.graph.record import Graph, bind, fetch, flat_arguments, hint, shape_of
from secateur.graph.trace import Dynamic, split_inputs, trace

__all__ = [
    "MODE_FUNCTIONS", "Attribute", "Compound", "Dynamic", "Graph", "Length", "Output", "Probe", "Use", "bind", "decode",
    "encode", "evaluate", "fetch", "flat_arguments", "hint", "is_record", "leaves", "op_name", "outputs", "probe",
    "rebuilt", "shape_of", "split_inputs", "trace",
]  # fmt: skip
