"""The user's own class, cut: ties that make it possible, attributes by provenance, and the check against the graph."""

from secateur.surgery.owner.form import Owner, own_class
from secateur.surgery.owner.rebuild import Obstacle
from secateur.surgery.owner.ties import find_ties

__all__ = ["Obstacle", "Owner", "find_ties", "own_class"]
