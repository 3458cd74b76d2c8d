"""The user's own class, cut: ties that make it possible, attributes by provenance, and the check against the graph."""

from secateur.surgery.owner.attempt import Attempt, attempts, in_own_class, written_back
from secateur.surgery.owner.config import construction
from secateur.surgery.owner.form import Owner
from secateur.surgery.owner.lasting import lasting_ties
from secateur.surgery.owner.rebuild import Obstacle
from secateur.surgery.owner.standins import StandIns, find_standins
from secateur.surgery.owner.ties import find_ties
from secateur.surgery.owner.whole import whole_groups
from secateur.surgery.owner.widths import plan_for_shapes

__all__ = [
    "Attempt", "Obstacle", "Owner", "StandIns", "attempts", "construction", "find_standins", "find_ties",
    "in_own_class", "lasting_ties", "plan_for_shapes", "whole_groups", "written_back",
]  # fmt: skip
