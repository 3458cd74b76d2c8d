"""Plan: saliencies and a budget become a :class:`Plan` of what to keep."""

from secateur.planning.allocate import Allocator, Care, Global, Problem, Uniform, allocate
from secateur.planning.budget import QUALITY, RELATIVE, Amount, Budget, parse_amount
from secateur.planning.choice import Blocks, Choice, Orders, source
from secateur.planning.depth import choose_depth, compare_depths, depth_units
from secateur.planning.plan import Fold, Plan, choice_of, dead_atoms, plan_of, without_removed
from secateur.planning.rounding import Rounding
from secateur.planning.ties import Ties

__all__ = [
    "QUALITY", "RELATIVE", "Allocator", "Amount", "Blocks", "Budget", "Care", "Choice", "Fold", "Global", "Orders",
    "Plan", "Problem", "Rounding", "Ties", "Uniform", "allocate", "choice_of", "choose_depth", "compare_depths",
    "dead_atoms",
    "depth_units", "parse_amount", "plan_of", "source", "without_removed",
]  # fmt: skip
