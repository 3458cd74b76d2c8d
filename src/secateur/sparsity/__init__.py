"""Sparsity: zeros among the weights, counted, masked, and taken out where whole channels of them allow it."""

from secateur.sparsity.shrink import Shrunk, shrink
from secateur.sparsity.torch_prune import apply_, masks_of, permanent, put_masks
from secateur.sparsity.zeros import Zeros, count_zeros

__all__ = ["Shrunk", "Zeros", "apply_", "count_zeros", "masks_of", "permanent", "put_masks", "shrink"]
