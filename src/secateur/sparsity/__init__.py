"""Sparsity: zeros among the weights, made, masked, counted, and taken out where whole channels of them allow it."""

from secateur.sparsity.methods import LargestWeights, Method, SparseGPT, Wanda
from secateur.sparsity.patterns import NM, Blocks, Pattern, Unstructured
from secateur.sparsity.shrink import Shrunk, shrink
from secateur.sparsity.sparsify import Sparse, SparseLayer, compressed_bytes, sparsify
from secateur.sparsity.torch_prune import apply_, masks_of, permanent, put_masks
from secateur.sparsity.zeros import Zeros, count_zeros

__all__ = [
    "NM", "Blocks", "LargestWeights", "Method", "Pattern", "Shrunk", "Sparse", "SparseGPT", "SparseLayer",
    "Unstructured", "Wanda", "Zeros", "apply_", "compressed_bytes", "count_zeros", "masks_of", "permanent",
    "put_masks", "shrink", "sparsify",
]  # fmt: skip
