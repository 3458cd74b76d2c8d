"""Reconstruction: the weights of a cut model solved again in closed form, from a few hundred inputs."""

from secateur.recovery.reconstruct.layerwise import Layerwise, Solved
from secateur.recovery.reconstruct.recoverer import Reconstruct, Reconstruction, reconstruct_

__all__ = ["Layerwise", "Reconstruct", "Reconstruction", "Solved", "reconstruct_"]
