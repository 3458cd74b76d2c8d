"""Reconstruction: the weights of a cut model solved again in closed form, from a few hundred inputs."""

from secateur.recovery.reconstruct.layerwise import Layerwise, Solved, picked
from secateur.recovery.reconstruct.recoverer import (
    Reconstruct,
    Reconstruction,
    counting,
    reconstruct_,
    some_batches,
)
from secateur.recovery.reconstruct.walk import Walk

__all__ = [
    "Layerwise", "Reconstruct", "Reconstruction", "Solved", "Walk", "counting", "picked",
    "reconstruct_", "some_batches",
]  # fmt: skip
