"""Defines the operators that torchvision's Python half expects, for machines where its compiled half does not load.

With torchvision from PyPI beside a CPU build of torch, ``import torchvision`` fails. Tests that need models of
torchvision or timm call :func:`define` first; it is the benchmarks' own.
"""

from benchmarks.torchvision_operators import define

__all__ = ["define"]
