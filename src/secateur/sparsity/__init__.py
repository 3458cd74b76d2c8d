"""Sparsity: zeros without cutting. In this version they are counted; masks that make them come later."""

from secateur.sparsity.zeros import Zeros, count_zeros

__all__ = ["Zeros", "count_zeros"]
