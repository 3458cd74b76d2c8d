"""Trace: a model and example inputs become a :class:`Graph`."""

from secateur.graph.assemble import assemble
from secateur.graph.flow import Flow, is_tensor
from secateur.graph.fold import computes_weights
from secateur.graph.layers import LAYERS, Layer, layer_of, mean_after
from secateur.graph.modes import MODE_FUNCTIONS
from secateur.graph.normalise import op_name
from secateur.graph.numbered import is_record, rebuilt
from secateur.graph.numbers import Attribute, Compound, Expression, Length, TracedInt, evaluate, leaves
from secateur.graph.outputs import Output, outputs
from secateur.graph.probe import Probe, Use, probe
from secateur.graph.program import decode, encode
from secateur.graph.record import Graph, bind, fetch, flat_arguments, flat_inputs, hint, shape_of
from secateur.graph.shapes import as_shapes
from secateur.graph.trace import (
    Dynamic,
    evaluating,
    fingerprint_of,
    split_inputs,
    trace,
    two_samples,
    user_line,
)
from secateur.graph.unread import only_unread_state

__all__ = [
    "LAYERS",
    "MODE_FUNCTIONS",
    "Attribute",
    "Compound",
    "Dynamic",
    "Expression",
    "Flow",
    "Graph",
    "Layer",
    "Length",
    "Output",
    "Probe",
    "TracedInt",
    "Use",
    "as_shapes",
    "assemble",
    "bind",
    "computes_weights",
    "decode",
    "encode",
    "evaluate",
    "evaluating",
    "fetch",
    "fingerprint_of",
    "flat_arguments",
    "flat_inputs",
    "hint",
    "is_record",
    "is_tensor",
    "layer_of",
    "leaves",
    "mean_after",
    "only_unread_state",
    "op_name",
    "outputs",
    "probe",
    "rebuilt",
    "shape_of",
    "split_inputs",
    "trace",
    "two_samples",
    "user_line",
]  # fmt: skip
