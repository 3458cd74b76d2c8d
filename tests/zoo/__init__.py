"""Tiny networks that one can count by hand, with their golden tables."""

from tests.zoo.attention import CASES as _ATTENTION
from tests.zoo.case import Case, golden, randomise, written
from tests.zoo.convolutions import CASES as _CONVOLUTIONS
from tests.zoo.other import CASES as _OTHER

ZOO: dict[str, Case] = {case.name: case for case in (*_CONVOLUTIONS, *_ATTENTION, *_OTHER)}

__all__ = ["ZOO", "Case", "golden", "randomise", "written"]
